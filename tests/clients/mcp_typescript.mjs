// The scenario of test_mcp_clients.py with the TypeScript SDK, 1.x or 2.x: prints what was seen as one
// JSON object. HEARTH_TARGET is the JSON of what to connect to, with which SDK and in which mode.

const target = JSON.parse(process.env.HEARTH_TARGET);
const server = {
  command: target.command,
  args: ["mcp", "serve"],
  env: { ...process.env, HEARTH_URL: target.url },
};
const web = { requestInit: { headers: { Authorization: `Bearer ${target.token}` } } };

async function connect() {
  const second = target.sdk === 2;
  const { Client } = await import(
    second ? "@modelcontextprotocol/client" : "@modelcontextprotocol/sdk/client/index.js");
  const { StdioClientTransport } = await import(
    second ? "@modelcontextprotocol/client/stdio" : "@modelcontextprotocol/sdk/client/stdio.js");
  const { StreamableHTTPClientTransport } = await import(
    second ? "@modelcontextprotocol/client" : "@modelcontextprotocol/sdk/client/streamableHttp.js");
  const options = second ? { versionNegotiation: { mode: target.mode } } : undefined;
  const client = new Client({ name: "tests", version: "1" }, options);
  await client.connect(target.transport === "stdio"
    ? new StdioClientTransport(server)
    : new StreamableHTTPClientTransport(new URL(target.url), web));
  return client;
}

const client = await connect();
const call = (name, args, options) => target.sdk === 2
  ? client.callTool({ name, arguments: args }, options)
  : client.callTool({ name, arguments: args }, undefined, options);
const run = (command, options) =>
  call("workspace_exec", { workspace_id: target.workspace_id, command }, options);

const seen = { version: client.getNegotiatedProtocolVersion?.() ?? null };
seen.tools = (await client.listTools()).tools.map((tool) => tool.name);
seen.progress = [];
const soon = () => new Promise((resolve) => { setTimeout(resolve, 50); });
const runFast = async () => {
  const ended = await run("echo out; exit 4");
  while (!seen.progress.length) await soon(); // The slow one runs until it has been told of.
  await run(`touch ${target.tag}.told`);
  return ended;
};
const [, fast] = await Promise.all([
  run(`until [ -e ${target.tag}.told ]; do sleep 0.1; done`,
    { onprogress: ({ progress }) => seen.progress.push(progress) }),
  runFast(),
]);
seen.result = [fast.structuredContent.stdout, fast.structuredContent.exit_code];
const failed = await run(5);
seen.failure = [failed.isError, JSON.parse(failed.content[0].text).code];
await call("nope", {}).catch((error) => { seen.unknown = error.code; });
await run(`echo -n one >${target.tag}`);
const uri = `hearth://workspaces/${target.workspace_id}/files/${target.tag}`;
seen.resource = (await client.readResource({ uri })).contents[0].text;
seen.prompts = (await client.listPrompts()).prompts.length;
const prompt = await client.getPrompt({ name: "repro-fix-loop", arguments: { command: "make check" } });
seen.prompt = prompt.messages[0].content.text.includes("make check");
// Giving up ends the command in the guest.
const giveUp = new AbortController();
const givenUp = run(`echo $$ >${target.tag}.pid; exec sleep 60`, { signal: giveUp.signal }).catch(() => {});
while ((await run(`[ -s ${target.tag}.pid ]`)).structuredContent.exit_code) await soon();
giveUp.abort();
await givenUp;
const left = await run(
  `pid=$(cat ${target.tag}.pid) || echo never ran; for i in $(seq 250); do ` +
  `kill -0 $pid || break; sleep 0.1; done; kill -0 $pid && echo runs still`);
seen.left = left.structuredContent.stdout;
console.log(JSON.stringify(seen));
await client.close();
process.exit(0);
