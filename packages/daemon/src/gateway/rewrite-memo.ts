import {
  type AnswerFacts,
  type ForwardFacts,
  requestHeadText,
  responseHeadText,
} from "./headers.ts";
import type { Authority, RequestHead, ResponseHead } from "./wire/index.ts";

/**
 * The last request head of a client connection as it went on. Rewriting depends on the head and on
 * the facts alone; heads that are the same bytes are the same object, since they are read once.
 */
export class RequestRewrite {
  #head: RequestHead | undefined;
  #facts: ForwardFacts | undefined;
  #text = "";

  /** The same as {@link requestHeadText}. */
  text(head: RequestHead, facts: ForwardFacts): string {
    if (this.#head === head && isSameForward(this.#facts, facts)) return this.#text;
    this.#text = requestHeadText(head, facts);
    this.#head = head;
    this.#facts = facts;
    return this.#text;
  }
}

/** The last response head of an app's connection as it went on, to whichever client. */
export class ResponseRewrite {
  #head: ResponseHead | undefined;
  #authority: Authority | undefined;
  #facts: ForwardFacts | undefined;
  #answer: AnswerFacts | undefined;
  #text = "";

  /** The same as {@link responseHeadText}. */
  text(
    head: ResponseHead,
    request: Pick<RequestHead, "authority">,
    facts: ForwardFacts,
    answer: AnswerFacts,
  ): string {
    const isKnown =
      this.#head === head &&
      this.#authority === request.authority &&
      isSameForward(this.#facts, facts) &&
      isSameAnswer(this.#answer, answer);
    if (isKnown) return this.#text;
    this.#text = responseHeadText(head, request, facts, answer);
    this.#head = head;
    this.#authority = request.authority;
    this.#facts = facts;
    this.#answer = answer;
    return this.#text;
  }
}

function isSameForward(known: ForwardFacts | undefined, facts: ForwardFacts): boolean {
  return (
    known !== undefined &&
    known.kind === facts.kind &&
    known.protocol === facts.protocol &&
    known.address === facts.address &&
    known.localHost === facts.localHost
  );
}

function isSameAnswer(known: AnswerFacts | undefined, answer: AnswerFacts): boolean {
  return (
    known !== undefined &&
    known.minor === answer.minor &&
    known.keepAlive === answer.keepAlive &&
    known.framing === answer.framing
  );
}
