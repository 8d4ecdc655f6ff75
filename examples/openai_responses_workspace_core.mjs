#!/usr/bin/env node
// The loop of openai_responses_workspace_core.py with OpenAI's package for Node: tools from the daemon,
// calls to the daemon unread, those of one turn side by side, the answers streamed.
//
// npm ci && node openai_responses_workspace_core.mjs [PROJECT]
// HEARTH_URL names the daemon (unix:///PATH, or http://HOST:PORT with HEARTH_TOKEN).

import { execFileSync } from "node:child_process";
import http from "node:http";
import path from "node:path";
import OpenAI from "openai";

const { HEARTH_URL, HEARTH_TOKEN, OPENAI_MODEL = "gpt-5" } = process.env;
const PROJECT = process.argv[2] ?? path.join(import.meta.dirname, "projects/ledger");
const TESTS = "python3 -m unittest 2>&1";
const task = (id) => `The project in /workspace of workspace ${id} has failing tests: run them with
\`${TESTS}\`, find the cause, fix it in the code (not in the tests), and run them again.`;

/** A request to the daemon; gives the status and the text of its answer. */
function ask(method, route, body, type = "application/json") {
  const unix = HEARTH_URL.startsWith("unix://");
  const url = new URL(route, unix ? "http://localhost" : HEARTH_URL);
  const headers = { ...(body && { "Content-Type": type, "Content-Length": Buffer.byteLength(body) }),
                    ...(HEARTH_TOKEN && { Authorization: `Bearer ${HEARTH_TOKEN}` }) };
  const options = { method, headers, ...(unix && { socketPath: HEARTH_URL.slice("unix://".length) }) };
  return new Promise((resolve, reject) => {
    http.request(url, options, async (response) => {
      const text = (await response.setEncoding("utf8").toArray()).join("");
      resolve({ ok: response.statusCode < 300, text });
    }).on("error", reject).end(body);
  });
}

async function get(...request) {
  const { ok, text } = await ask(...request);
  if (!ok) throw new Error(text);
  return JSON.parse(text);
}

/** Asks until the model has no more calls; gives its last words. */
async function loop(client, tools, content) {
  const input = [{ role: "user", content }];
  for (;;) {
    const stream = client.responses.stream({ model: OPENAI_MODEL, input, tools });
    const response = await stream.finalResponse();
    const calls = response.output.filter((item) => item.type === "function_call");
    if (calls.length === 0) return response.output_text;
    input.push(...response.output);
    input.push(...await Promise.all(calls.map(async (call) => {
      console.log(`model: ${call.name}`);
      const { text } = await ask("POST", `/v1/tools/${encodeURIComponent(call.name)}/call`, call.arguments);
      return { type: "function_call_output", call_id: call.call_id, output: text };
    })));
  }
}

const tar = execFileSync("tar", ["-C", PROJECT, "--exclude=__pycache__", "-c", "."]);
const { upload_id } = await get("POST", "/v1/uploads", tar, "application/x-tar");
const { workspace_id } = await get("POST", "/v1/workspaces",
  JSON.stringify({ environment: "debian:12", seed_upload: upload_id }));
try {
  const { tools } = await get("GET", "/v1/tools?profile=workspace-core&format=openai-responses");
  console.log(`model: ${await loop(new OpenAI(), tools, task(workspace_id))}`);
  const after = await get("POST", `/v1/workspaces/${workspace_id}/exec`, JSON.stringify({ command: TESTS }));
  console.log(`after: ${after.stdout.trimEnd().split("\n").at(-1)}`);
  process.exitCode = after.exit_code;
} finally {
  await get("DELETE", `/v1/workspaces/${workspace_id}`);
}
