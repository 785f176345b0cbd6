import { layout, type Page } from "./layout.ts";

/** Times that one tab loads itself again within `FORGET_MS` before it says that it gives up. */
const RELOAD_COUNT_MAX = 5;
const FORGET_MS = 120_000;
const REFRESH_S = 2;

/**
 * Follows the wake over its own event stream, and loads the page again when the app listens. An app
 * that keeps being unreachable is not reloaded for ever: the tab counts.
 */
const SCRIPT = `(()=>{
const say=document.getElementById("say"),time=document.getElementById("time"),bar=document.getElementById("bar"),again=document.getElementById("again");
const words={waking:"Waking up…",connecting:"Waiting for the app to listen…",ready:"Ready."};
const key="belljar-boot";let past={n:0,at:0};
try{past=JSON.parse(sessionStorage.getItem(key))||past}catch{}
if(Date.now()-past.at>${FORGET_MS})past={n:0,at:0};
const stop=(text)=>{bar.hidden=true;time.hidden=true;again.hidden=false;say.textContent=text;try{sessionStorage.removeItem(key)}catch{}};
again.onclick=()=>location.reload();
if(past.n>=${RELOAD_COUNT_MAX}){stop("It started, but this page still cannot be shown.");return}
const go=()=>{try{sessionStorage.setItem(key,JSON.stringify({n:past.n+1,at:Date.now()}))}catch{}location.reload()};
let misses=0;const events=new EventSource("/.belljar/boot");
events.addEventListener("state",(event)=>{misses=0;const {state,elapsedMs}=JSON.parse(event.data);say.textContent=words[state]||state;time.textContent=(elapsedMs/1000).toFixed(0)+" s";if(state==="ready"){events.close();go()}});
events.addEventListener("failed",(event)=>{events.close();stop(JSON.parse(event.data).text)});
events.onerror=()=>{if(++misses>3){events.close();stop("The connection was lost.")}};
})()`;

/** What a browser sees while a sandbox wakes. */
export function bootPage(): Page {
  const body = `<h1>Starting</h1><p id="say" role="status" aria-live="polite">Waking up…</p><div class="bar" id="bar" aria-hidden="true"><i></i></div><p id="time"></p><button id="again" type="button" hidden>Try again</button>`;
  return layout({ title: "Starting…", body, script: SCRIPT, refreshS: REFRESH_S });
}
