// Notes: a list and a form, in one SQLite database.
const Database = require("better-sqlite3");
const express = require("express");

const db = new Database(process.env.DATABASE_PATH || "dev.sqlite3");
db.pragma("journal_mode = WAL");
db.pragma("busy_timeout = 5000");
db.exec("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)");

const escaped = (text) => text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);

const app = express();
app.use(express.urlencoded({ extended: false }));
app.get("/", (request, response) => {
  const notes = db.prepare("SELECT text FROM notes ORDER BY id").all();
  response.send(`<!doctype html><title>Notes</title>
<ul>${notes.map((note) => `<li>${escaped(note.text)}</li>`).join("")}</ul>
<form method="post" action="notes"><input name="text" required><button>Add</button></form>`);
});
app.post("/notes", (request, response) => {
  db.prepare("INSERT INTO notes (text) VALUES (?)").run(String(request.body.text ?? ""));
  response.redirect("/");
});
app.listen(process.env.PORT || 3000, "127.0.0.1");
