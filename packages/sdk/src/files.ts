import type { FileChange, FileList, FileStat } from "@belljar/protocol";
import { readEvents } from "./event-stream.ts";
import type { BodySource, CallOptions, Transport } from "./transport.ts";

/** Options of every file call. */
export interface FileOptions extends CallOptions {
  /** Acts as this user of the sandbox: a name, or `uid` or `uid:gid`. The default is the template's */
  user?: string | undefined;
}

/** Options of {@link Files.read}. */
export interface ReadFileOptions extends FileOptions {
  /** Bytes to skip */
  offset?: number | undefined;
  /** Bytes to read at most */
  length?: number | undefined;
}

/** Options of {@link Files.write}. */
export interface WriteFileOptions extends FileOptions {
  /** Permission bits as octal text, such as `0644` */
  mode?: string | undefined;
  /** Makes missing parent directories; the default is true */
  parents?: boolean | undefined;
}

/** Options of {@link Files.list}. */
export interface ListFilesOptions extends FileOptions {
  /** Levels of directories to go down, 1 to 32; the default is 1 */
  depth?: number | undefined;
  /** Entries at most, up to 100 000; the default is 10 000 */
  limit?: number | undefined;
}

/**
 * The files of one sandbox, made by `sandbox.files`. Paths are absolute paths inside it.
 *
 * @example
 * await sandbox.files.write("/home/user/hello.txt", "hello");
 * const text = await sandbox.files.readText("/home/user/hello.txt");
 */
export class Files {
  readonly #transport: Transport;
  readonly #path: string;

  /** @internal */
  constructor(transport: Transport, sandboxPath: string) {
    this.#transport = transport;
    this.#path = `${sandboxPath}/files`;
  }

  /** The file's bytes as a stream. @throws FILE_NOT_FOUND, FILE_NOT_REGULAR, FILE_PERMISSION. */
  async readStream(
    path: string,
    options: ReadFileOptions = {},
  ): Promise<ReadableStream<Uint8Array>> {
    const response = await this.#read(path, options);
    return response.body ?? new Blob([]).stream();
  }

  /** The file's bytes. @throws FILE_NOT_FOUND, FILE_NOT_REGULAR, FILE_PERMISSION. */
  async read(path: string, options: ReadFileOptions = {}): Promise<Uint8Array> {
    const response = await this.#read(path, options);
    return new Uint8Array(await response.arrayBuffer());
  }

  /** The file's bytes read as UTF-8. @throws FILE_NOT_FOUND, FILE_NOT_REGULAR, FILE_PERMISSION. */
  async readText(path: string, options: ReadFileOptions = {}): Promise<string> {
    const response = await this.#read(path, options);
    return response.text();
  }

  #read(path: string, options: ReadFileOptions): Promise<Response> {
    const { user, offset, length, signal } = options;
    return this.#transport.send({
      path: `${this.#path}/content`,
      query: { path, user, offset, length },
      signal,
    });
  }

  /**
   * Writes a file of any size. It appears whole or not at all, also when the call is aborted.
   * @throws FILE_IS_SYMLINK, FILE_PERMISSION, FILE_NO_SPACE.
   */
  write(path: string, content: BodySource, options: WriteFileOptions = {}): Promise<FileStat> {
    const { user, mode, parents, signal } = options;
    const query = { path, user, mode, parents };
    return this.#transport.json({
      method: "PUT",
      path: `${this.#path}/content`,
      query,
      body: content,
      signal,
    });
  }

  /** Entries of a directory. @throws FILE_NOT_FOUND, FILE_NOT_DIRECTORY. */
  list(path: string, options: ListFilesOptions = {}): Promise<FileList> {
    const { user, depth, limit, signal } = options;
    return this.#transport.json({ path: this.#path, query: { path, user, depth, limit }, signal });
  }

  /** Facts of one file. @throws FILE_NOT_FOUND. */
  stat(
    path: string,
    options: FileOptions & { followSymlink?: boolean | undefined } = {},
  ): Promise<FileStat> {
    const { user, followSymlink, signal } = options;
    return this.#transport.json({
      path: `${this.#path}/stat`,
      query: { path, user, followSymlink },
      signal,
    });
  }

  /** Whether something is at `path`. */
  async exists(path: string, options: FileOptions = {}): Promise<boolean> {
    try {
      await this.stat(path, { ...options, followSymlink: false });
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  /** Makes a directory, its parents too unless told otherwise. @throws FILE_EXISTS. */
  async makeDirectory(path: string, options: WriteFileOptions = {}): Promise<void> {
    const { user, mode, parents, signal } = options;
    await this.#post("directory", { path, user, mode, parents }, signal);
  }

  /** Moves or renames. @throws FILE_NOT_FOUND; FILE_EXISTS without `overwrite`. */
  async move(
    from: string,
    to: string,
    options: FileOptions & { overwrite?: boolean | undefined } = {},
  ): Promise<void> {
    const { user, overwrite, signal } = options;
    await this.#post("move", { from, to, user, overwrite }, signal);
  }

  /** Removes a file, or a directory with all below it when `recursive`. @throws FILE_NOT_EMPTY. */
  async remove(
    path: string,
    options: FileOptions & { recursive?: boolean | undefined } = {},
  ): Promise<void> {
    const { user, recursive, signal } = options;
    await this.#transport.json({
      method: "DELETE",
      path: this.#path,
      query: { path, user, recursive },
      signal,
    });
  }

  /** Changes permission bits, octal text such as `0755`. @throws FILE_IS_SYMLINK. */
  async changeMode(path: string, mode: string, options: FileOptions = {}): Promise<void> {
    await this.#post("mode", { path, mode, user: options.user }, options.signal);
  }

  /** Changes the owner, as root: a name, or `uid` or `uid:gid`. @throws FILE_IS_SYMLINK. */
  async changeOwner(path: string, owner: string, options: CallOptions = {}): Promise<void> {
    await this.#post("owner", { path, owner }, options.signal);
  }

  /** Extended attributes `user.*`, values in base64. */
  async attributes(path: string, options: FileOptions = {}): Promise<Record<string, string>> {
    const { user, signal } = options;
    const spec = { path: `${this.#path}/xattrs`, query: { path, user }, signal };
    return (await this.#transport.json<{ attributes: Record<string, string> }>(spec)).attributes;
  }

  /** Sets extended attributes `user.*` (values in base64); `null` removes one. */
  async setAttributes(
    path: string,
    attributes: Record<string, string | null>,
    options: FileOptions = {},
  ): Promise<void> {
    const { user, signal } = options;
    const json = { path, user, attributes };
    await this.#transport.json({ method: "PATCH", path: `${this.#path}/xattrs`, json, signal });
  }

  /**
   * Changes below a directory, as they happen, until the reader stops or the signal aborts.
   * An `overflow` says that some were missed: look again.
   */
  async *watch(
    path: string,
    options: FileOptions & { recursive?: boolean | undefined } = {},
  ): AsyncGenerator<FileChange> {
    const { user, recursive, signal } = options;
    const spec = { path: `${this.#path}/watch`, query: { path, user, recursive } };
    for await (const { event, data } of readEvents(this.#transport, spec, { signal })) {
      if (event === "change" || event === "overflow") yield JSON.parse(data) as FileChange;
    }
  }

  async #post(action: string, json: unknown, signal: AbortSignal | undefined): Promise<void> {
    await this.#transport.json({ method: "POST", path: `${this.#path}/${action}`, json, signal });
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "FILE_NOT_FOUND";
}
