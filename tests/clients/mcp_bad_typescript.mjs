// What test_mcp_bad_input.py asks of the TypeScript SDK 1.x: mistakes that a real client can make.
// HEARTH_TARGET is the JSON of what to connect to; prints what was seen.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const target = JSON.parse(process.env.HEARTH_TARGET);
const transport = target.transport === "stdio"
  ? new StdioClientTransport({
    command: target.command, args: ["mcp", "serve"],
    env: { ...process.env, HEARTH_URL: target.url },
  })
  : new StreamableHTTPClientTransport(new URL(target.url), {
    requestInit: { headers: { Authorization: `Bearer ${target.token}` } },
  });
const client = new Client({ name: "tests", version: "1" });
await client.connect(transport);
await client.listTools(); // from here on it checks results against the output schemas

const run = (command, more, options) => client.callTool(
  { name: "workspace_exec", arguments: { workspace_id: target.workspace_id, command, ...more } },
  undefined, options);
const problem = async (answer) => {
  const { isError, content, structuredContent } = await answer;
  return isError && structuredContent === undefined ? JSON.parse(content[0].text).code : null;
};
const refused = (answer) => answer.then(() => null, (error) => error.code);

const seen = {};
seen.types = [];
for (const value of [5, [], {}, true]) seen.types.push(await problem(run(value)));
seen.argument = await problem(run("true", { bogus: 1 }));
seen.missing = await problem(client.callTool({ name: "workspace_status", arguments: {} }));
seen["no workspace"] = await problem(
  client.callTool({ name: "workspace_status", arguments: { workspace_id: "../x" } }));
seen.tool = await refused(client.callTool({ name: "nope", arguments: {} }));
seen.prompt = await refused(client.getPrompt({ name: "nope" }));
seen.resource = await refused(client.readResource({ uri: "hearth://nope" }));
seen.cursor = await refused(client.listTools({ cursor: "bogus" }));

const giveUp = new AbortController();
setTimeout(() => giveUp.abort(), 500);
await run("sleep 600", { timeout_seconds: 600 }, { signal: giveUp.signal }).catch(() => {});
seen["after giving up"] = (await run("echo on")).structuredContent.stdout.trim();
if (target.transport === "http") {
  // The session as another of this client's would end it.
  await fetch(target.url, {
    method: "DELETE",
    headers: { Authorization: `Bearer ${target.token}`, "Mcp-Session-Id": transport.sessionId },
  });
  seen["ended session"] = await refused(client.ping());
}
console.log(JSON.stringify(seen));
process.exit(0);
