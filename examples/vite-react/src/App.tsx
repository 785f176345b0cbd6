import { useState } from "react";
import { BellJar } from "./BellJar.tsx";

/** Change this text while the page is open: it updates, and the counter keeps its count. */
const HEADLINE = "Hello from under the bell jar";

export function App() {
  const [count, setCount] = useState(0);
  return (
    <main className="page">
      <BellJar lit={count > 0} />
      <h1>{HEADLINE}</h1>
      <p className="lead">
        This page is served by a dev server that runs in a sealed sandbox. It has a file system,
        processes and a network of its own; this URL is the only window.
      </p>
      <div className="counter">
        <button type="button" onClick={() => setCount(count - 1)} aria-label="one less">
          −
        </button>
        <output aria-live="polite">{count}</output>
        <button type="button" onClick={() => setCount(count + 1)} aria-label="one more">
          +
        </button>
      </div>
      <p className="hint">
        Edit <code>src/App.tsx</code> inside the sandbox and watch this page.
      </p>
    </main>
  );
}
