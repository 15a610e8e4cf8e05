/** Text streams in, messages out: in the order in which the streams were opened. */

import { BadMessage, parseMessage, type UnknownMessage, type VatelMessage } from "./messages";

/** A message is a few hundred bytes; this only keeps a broken sender from filling the page's memory. In UTF-16 units. */
export const MAX_MESSAGE_LENGTH = 1024 * 1024;

/** A stream that stands still for so long is given up, or it would hold back all that were opened after it. */
export const STALLED_AFTER_MS = 10_000;

export class Inbox {
  readonly #deliver: (message: VatelMessage | UnknownMessage) => void;
  readonly #drop: (why: string) => void;
  #tail: Promise<void> = Promise.resolve();

  constructor(deliver: (message: VatelMessage | UnknownMessage) => void, drop: (why: string) => void) {
    this.#deliver = deliver;
    this.#drop = drop;
  }

  /** Take a stream that has just been opened. Streams overlap on the wire: each is read at once, and waits for its turn. */
  receive(stream: AsyncIterable<string>): void {
    const reading = readText(stream)
      .then(parseMessage)
      .then(
        (message) => () => this.#deliver(message),
        (error: unknown) => () => this.#drop(error instanceof BadMessage ? error.message : "it was cut off"),
      );
    this.#tail = Promise.all([reading, this.#tail]).then(([finish]) => finish());
  }

  /** Resolves when everything that was received so far is delivered or dropped. */
  emptied(): Promise<void> {
    return this.#tail;
  }
}

/** Reads on after giving up: a stream that nobody reads is buffered by LiveKit without a limit. */
function readText(stream: AsyncIterable<string>): Promise<string> {
  return new Promise((resolve, reject) => {
    const stalled = () => reject(new BadMessage("it was not finished in time"));
    let timer = setTimeout(stalled, STALLED_AFTER_MS);
    const read = async () => {
      let text = "";
      let length = 0;
      for await (const chunk of stream) {
        clearTimeout(timer);
        timer = setTimeout(stalled, STALLED_AFTER_MS);
        length += chunk.length;
        if (length <= MAX_MESSAGE_LENGTH) {
          text += chunk;
        } else {
          text = "";
          reject(new BadMessage(`it is longer than ${MAX_MESSAGE_LENGTH} characters`));
        }
      }
      return text;
    };
    read()
      .then(resolve, reject)
      .finally(() => clearTimeout(timer));
  });
}
