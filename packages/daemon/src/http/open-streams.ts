/** Streams that would never end by themselves, so that a stopping daemon can end them. */
export class OpenStreams {
  readonly #controllers = new Set<AbortController>();
  #isClosed = false;

  get count(): number {
    return this.#controllers.size;
  }

  /** A signal that fires at `closeAll`; dispose it when the stream has ended. */
  open(): { readonly controller: AbortController } & Disposable {
    const controller = new AbortController();
    if (this.#isClosed) controller.abort();
    else this.#controllers.add(controller);
    return { controller, [Symbol.dispose]: () => this.#controllers.delete(controller) };
  }

  closeAll(): void {
    this.#isClosed = true;
    for (const controller of this.#controllers) controller.abort();
    this.#controllers.clear();
  }
}
