// Hears what the page's <audio> plays, both sides apart, and notes which line of the transcript is marked when.
() => {
  const RATE = 16; // samples a ms
  const audio = document.querySelector("#recording audio");
  const ear = { startedAt: null, sides: [[], []], samples: 0, marks: [] };
  const note = () => {
    const line = document.querySelector('#transcript [aria-current="true"]');
    const id = line ? line.id : "";
    if (ear.marks.at(-1)?.id !== id) ear.marks.push({ id, at: performance.now(), second: audio.currentTime });
  };
  new MutationObserver(note).observe(document.querySelector("#transcript"), { attributes: true, subtree: true });
  /** One side of a frame at 16 kHz; the mean of the samples between is filter enough for speech. */
  const side = (data, number) => {
    const all = new Float32Array(data.numberOfFrames);
    data.copyTo(all, { planeIndex: Math.min(number, data.numberOfChannels - 1), format: "f32-planar" });
    const step = data.sampleRate / 1000 / RATE;
    return Int16Array.from({ length: Math.floor(all.length / step) }, (_, i) => {
      const from = Math.floor(i * step);
      const window = all.subarray(from, Math.max(from + 1, Math.floor((i + 1) * step)));
      return Math.max(-1, Math.min(1, window.reduce((a, b) => a + b, 0) / window.length)) * 32767;
    });
  };
  const base64 = (blocks) => {
    const bytes = new Uint8Array(new Int16Array(blocks.flatMap((block) => [...block])).buffer);
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return btoa(text);
  };
  const listen = async (track) => {
    const frames = new MediaStreamTrackProcessor({ track, maxBufferSize: 500 }).readable.getReader();
    for (;;) {
      const { done, value } = await frames.read();
      if (done) return;
      const now = performance.now();
      ear.startedAt ??= now - value.duration / 1000;
      // While nothing plays there are no frames; later ones keep their times.
      const due = Math.round((now - value.duration / 1000 - ear.startedAt) * RATE);
      const gap = due - ear.samples > 300 * RATE ? due - ear.samples : 0;
      const blocks = [side(value, 0), side(value, 1)];
      for (const [number, block] of blocks.entries()) {
        if (gap) ear.sides[number].push(new Int16Array(gap));
        ear.sides[number].push(block);
      }
      ear.samples += gap + blocks[0].length;
      value.close();
    }
  };
  const stream = audio.captureStream();
  for (const track of stream.getAudioTracks()) listen(track);
  stream.addEventListener("addtrack", ({ track }) => listen(track));
  window.playerEar = {
    take: () => ({
      startedAt: ear.startedAt,
      caller: base64(ear.sides[0]),
      agent: base64(ear.sides[1]),
      marks: ear.marks,
    }),
    now: () => performance.now(),
  };
};
