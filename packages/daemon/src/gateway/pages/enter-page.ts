import { layout, type Page } from "./layout.ts";

/**
 * Takes the code out of the fragment (which no server, log or Referer ever sees), out of the
 * history too, and exchanges it for a cookie of this host.
 */
const SCRIPT = `(()=>{
const say=document.getElementById("say"),bar=document.getElementById("bar");
const given=new URLSearchParams(location.hash.slice(1));
history.replaceState(null,"",location.pathname);
const fail=(text)=>{bar.hidden=true;say.textContent=text};
const token=given.get("code")||given.get("link")||"";
if(!token){fail("This address carries no code. Open the preview again from where you came.");return}
fetch("/.belljar/session",{method:"POST",credentials:"include",headers:{"Content-Type":"application/json"},body:JSON.stringify({token,to:given.get("to")||"/",isFramed:window.top!==window})})
.then(async(response)=>{const answer=await response.json();if(response.ok)location.replace(answer.to);else fail(response.status===429?"Too many tries. Wait a minute.":"This link was used, has expired or was taken back. Ask for a new one.")})
.catch(()=>fail("The connection was lost. Load the link again."));
})()`;

/** Where a visitor arrives with a code or a link in the fragment. */
export function enterPage(frameAncestors: readonly string[]): Page {
  const body = `<h1>Opening the preview</h1><div class="bar" id="bar" aria-hidden="true"><i></i></div><p id="say" role="status" aria-live="polite">One moment…</p><noscript><p>This step needs JavaScript.</p></noscript>`;
  return layout({ title: "Opening…", body, script: SCRIPT, frameAncestors });
}
