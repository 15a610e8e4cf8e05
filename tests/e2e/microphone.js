// Init script: a microphone that speaks on cue. getUserMedia hands out the end of a WebAudio graph, which a
// silent source keeps sending packets (a destination with no source sends none).
(() => {
  let context;
  let destination;
  const open = async () => {
    if (!context) {
      context = new AudioContext({ sampleRate: 48000 });
      destination = context.createMediaStreamDestination();
      const silence = context.createConstantSource();
      silence.offset.value = 0.0005;
      silence.connect(destination);
      silence.start();
    }
    await context.resume();
  };
  const real = navigator.mediaDevices;
  if (!real) return;
  real.getUserMedia = async () => {
    await open();
    return destination.stream.clone();
  };
  window.microphone = {
    /** Plays a WAV (base64) into the microphone; resolves at once with the times (ms, performance.now) at which it starts and ends. */
    async say(base64) {
      await open();
      const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      const buffer = await context.decodeAudioData(bytes.buffer);
      const source = context.createBufferSource();
      source.buffer = buffer;
      source.connect(destination);
      const at = context.currentTime + 0.05;
      source.start(at);
      this.finished = new Promise((resolve) => {
        source.onended = resolve;
      });
      const starts = performance.now() + (at - context.currentTime) * 1000;
      return { starts, ends: starts + buffer.duration * 1000 };
    },
    finished: Promise.resolve(),
  };
})();
