// Init script: hears what the page plays. The track behind each <audio> put into #remote-audio is read frame by frame
// and kept at 16 kHz. (A worklet would need a module that the page's CSP lets in, and Playwright cannot provide one.)
(() => {
  const RATE = 16; // samples a ms
  const ear = { startedAt: null, blocks: [], samples: 0 };
  const keep = (block) => {
    ear.blocks.push(block);
    ear.samples += block.length;
  };
  const louder = (peak, block) => block.reduce((most, value) => Math.max(most, Math.abs(value)), peak);
  window.ear = {
    clickedAt: null,
    /** Base64 of all samples (16-bit mono PCM), and the time (ms, performance.now) of the first. */
    take() {
      const all = new Int16Array(ear.samples);
      let at = 0;
      for (const block of ear.blocks) {
        all.set(block, at);
        at += block.length;
      }
      const bytes = new Uint8Array(all.buffer);
      let text = "";
      for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
      return { startedAt: ear.startedAt, pcm: btoa(text) };
    },
    /** Whether the last half second that was played is audible; undefined while it is not all after `since` (ms). */
    isLoud(since) {
      if (ear.startedAt === null || ear.startedAt + ear.samples / RATE - since < 500) return undefined;
      const wanted = 500 * RATE;
      let peak = 0;
      for (let i = ear.blocks.length - 1, seen = 0; i >= 0 && seen < wanted; i--) {
        peak = louder(peak, ear.blocks[i]);
        seen += ear.blocks[i].length;
      }
      return peak > 1000;
    },
  };
  /** 48 kHz floats to 16 kHz integers; the mean of three samples is filter enough for speech. */
  const downsample = (data) => {
    const all = new Float32Array(data.numberOfFrames);
    data.copyTo(all, { planeIndex: 0, format: "f32-planar" });
    const step = data.sampleRate / 1000 / RATE;
    return Int16Array.from({ length: Math.floor(all.length / step) }, (_, i) => {
      const window = all.subarray(i * step, (i + 1) * step);
      return Math.max(-1, Math.min(1, window.reduce((a, b) => a + b, 0) / window.length)) * 32767;
    });
  };
  const listen = async (element) => {
    while (!element.srcObject) await new Promise(requestAnimationFrame);
    const [track] = element.srcObject.getAudioTracks();
    const frames = new MediaStreamTrackProcessor({ track, maxBufferSize: 500 }).readable.getReader();
    let first;
    for (;;) {
      const { done, value } = await frames.read();
      if (done) return;
      const block = downsample(value);
      ear.startedAt ??= performance.now() - value.duration / 1000;
      first ??= { timestamp: value.timestamp, samples: ear.samples };
      // Frames that were dropped leave a gap, so that later ones keep their times.
      const due = first.samples + Math.round(((value.timestamp - first.timestamp) / 1000) * RATE);
      if (due - ear.samples > 20 * RATE) keep(new Int16Array(due - ear.samples));
      keep(block);
      value.close();
    }
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
