// Init script: hears what the page plays. Every <audio> put into #remote-audio is tapped by a worklet at 16 kHz;
// samples arrive with the time (ms, performance.now) at which their first block did.
(() => {
  const ear = { startedAt: null, blocks: [], samples: 0 };
  const loudest = (blocks) => blocks.reduce((peak, block) => block.reduce((p, v) => Math.max(p, Math.abs(v)), peak), 0);
  window.ear = {
    /** Whether the last half second of what was played, as far as it came after `since` (ms), is audible. */
    isLoud(since) {
      if (ear.startedAt === null) return false;
      const after = Math.max(0, Math.floor(((since - ear.startedAt) / 1000) * 16000));
      const blocks = Math.min(ear.blocks.length, 63, Math.ceil((ear.samples - after) / 128));
      return blocks > 0 && loudest(ear.blocks.slice(-blocks)) > 1000;
    },
    /** Base64 of 16-bit mono PCM from sample `from` on, and the time of sample 0. */
    take(from = 0) {
      const all = new Int16Array(ear.samples);
      let at = 0;
      for (const block of ear.blocks) {
        all.set(block, at);
        at += block.length;
      }
      const bytes = new Uint8Array(all.slice(from).buffer);
      let text = "";
      for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
      return { startedAt: ear.startedAt, samples: ear.samples, pcm: btoa(text) };
    },
  };
  const listen = async (element) => {
    while (!element.srcObject) await new Promise((resolve) => setTimeout(resolve, 5));
    const context = new AudioContext({ sampleRate: 16000 });
    await context.resume();
    await context.audioWorklet.addModule("/__ear-worklet.js");
    const node = new AudioWorkletNode(context, "ear");
    node.port.onmessage = ({ data }) => {
      ear.startedAt ??= performance.now() - (data.length / 16000) * 1000;
      const block = Int16Array.from(data, (v) => Math.max(-1, Math.min(1, v)) * 32767);
      ear.blocks.push(block);
      ear.samples += block.length;
    };
    context.createMediaStreamSource(element.srcObject).connect(node);
  };
  document.addEventListener("click", () => { window.ear.clickedAt = performance.now(); }, true);
  document.addEventListener("DOMContentLoaded", () => {
    const host = document.getElementById("remote-audio");
    if (!host) return;
    new MutationObserver((changes) => {
      for (const change of changes)
        for (const node of change.addedNodes) if (node instanceof HTMLAudioElement) listen(node);
    }).observe(host, { childList: true });
  });
})();
