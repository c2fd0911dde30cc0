// The compliance tests of Open Responses, which tests/doors/environments.py fetches and bundles; none of it is kept here.
const { runAllTests } = await import("./open-responses.mjs");

await runAllTests(
  {
    baseUrl: process.env.DOOR_URL,
    apiKey: process.env.DOOR_KEY,
    authHeaderName: "Authorization",
    useBearerPrefix: true,
    model: "obliging",
  },
  (result) => {
    if (result.status === "running") return;
    const difference = result.status === "failed" ? result.errors.join("; ").slice(0, 2000) : null;
    console.log(JSON.stringify({ call: result.id, difference }));
  },
);
process.exit(0);
