/** The drawing above the headline; what is inside glows once the counter has been touched. */
export function BellJar({ lit }: { lit: boolean }) {
  return (
    <svg
      className={lit ? "jar lit" : "jar"}
      viewBox="0 0 120 140"
      role="img"
      aria-label="a bell jar"
    >
      <circle className="glow" cx="60" cy="84" r="22" />
      <path
        className="leaf"
        d="M60 118V78m0 12c-14 0-20-8-20-20 14 0 20 8 20 20Zm0 8c14 0 20-8 20-20-14 0-20 8-20 20Z"
      />
      <path className="glass" d="M24 118V58a36 36 0 0 1 72 0v60Z" />
      <path className="shine" d="M36 96V60a24 24 0 0 1 10-19" />
      <circle className="knob" cx="60" cy="14" r="6" />
      <path className="base" d="M12 118h96v8H12Z" />
    </svg>
  );
}
