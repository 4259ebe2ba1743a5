// A counter for one customer. It knows its database and its port, and nothing of other customers, machines or buckets.
const express = require("express");
const sqlite3 = require("sqlite3");

const { CUSTOMER_ID = "0", DATABASE_PATH = "db.sqlite3", PORT = "3000" } = process.env;

const db = new sqlite3.Database(DATABASE_PATH);
db.configure("busyTimeout", 5000);
db.serialize(); // one statement after the other, in this order
db.run("PRAGMA journal_mode = WAL");
db.run("CREATE TABLE IF NOT EXISTS welcome (count INTEGER)");
db.run("INSERT INTO welcome SELECT 0 WHERE NOT EXISTS (SELECT * FROM welcome)");

const app = express();

app.get(`/customers/${CUSTOMER_ID}`, (request, response, next) => {
  db.get("UPDATE welcome SET count = count + 1 RETURNING count", (error, row) => {
    if (error) return next(error);
    response.send(page(row.count));
  });
});

app.listen(PORT, "127.0.0.1", () => console.log(`customer ${CUSTOMER_ID} is served on port ${PORT}`));

const page = (count) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Customer ${CUSTOMER_ID}</title>
<style>
  body { margin: 0; min-height: 100svh; display: grid; place-content: center; text-align: center; font-family: system-ui, sans-serif; }
  output { font-size: min(40vw, 14rem); font-weight: 700; line-height: 1; font-variant-numeric: tabular-nums; }
</style>
<p>Customer ${CUSTOMER_ID} was visited
<output>${count}</output>
<p>times
</html>
`;
