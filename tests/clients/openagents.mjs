// Drives sessiond through the published open-agents-builder-client, unmodified.
//
//   node openagents.mjs BASE_URL API_KEY DATABASE_ID_HASH AGENT_ID SESSION_ID
//
// Lists the agent's sessions, deletes one, lists again. Each call prints one line of JSON: {"call", "result"}, or
// {"call", "error"} when the client throws. The exit status is 0 either way: what the client made of an answer is for
// the test to judge.

import builder from "open-agents-builder-client"; // a CommonJS package: its exports are the default import

const [baseUrl, apiKey, databaseIdHash, agentId, sessionId] = process.argv.slice(2);
if (sessionId === undefined) {
  console.error("usage: openagents.mjs BASE_URL API_KEY DATABASE_ID_HASH AGENT_ID SESSION_ID");
  process.exit(2);
}

const client = new builder.OpenAgentsBuilderClient({ baseUrl, apiKey, databaseIdHash });

async function report(call, answer) {
  try {
    console.log(JSON.stringify({ call, result: await answer() }));
  } catch (error) {
    console.log(JSON.stringify({ call, error: error.message }));
  }
}

await report("listSessions", () => client.session.listSessions({ agentId }));
await report("deleteSession", () => client.session.deleteSession(sessionId));
await report("listSessions", () => client.session.listSessions({ agentId }));
