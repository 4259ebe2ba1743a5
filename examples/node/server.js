// Notes: a list, and a form for those who have signed in. Their files are in a folder of uploads.
const path = require("node:path");
const session = require("cookie-session");
const { csrfSync } = require("csrf-sync");
const express = require("express");
const multer = require("multer");
const notes = require("./notes");

const uploads = multer({ dest: process.env.UPLOADS || "uploads" });
const { csrfSynchronisedProtection: checked, generateToken } = csrfSync({
  getTokenFromRequest: (request) => request.body?.token,
});

const app = express();
app.use(express.static("public"));
app.use(session({ secret: process.env.SESSION_SECRET || "only for development", sameSite: "lax" }));

app.get("/", async (request, response) => {
  const { user } = request.session;
  const items = (await notes.all()).map(item).join("");
  response.send(page(`<ul>${items}</ul>${user ? welcome(user, generateToken(request)) : guest}`));
});

app.post("/notes", uploads.single("file"), checked, async (request, response) => {
  const { user: author } = request.session;
  if (!author) return response.redirect("/login");
  const { originalname: title = null, filename: file = null } = request.file ?? {};
  await notes.add({ author, text: String(request.body.text), title, file });
  response.redirect("/");
});

app.get("/notes/:id/file", async (request, response) => {
  const note = await notes.find(Number(request.params.id));
  if (!note?.file) return response.sendStatus(404);
  response.download(path.resolve(process.env.UPLOADS || "uploads", note.file), note.title);
});

app.get("/login", (request, response) => response.send(page(login(generateToken(request)))));

app.post("/login", express.urlencoded({ extended: false }), checked, (request, response) => {
  request.session.user = String(request.body.user);
  response.redirect("/");
});

app.listen(process.env.PORT || 3000, "127.0.0.1");

const escaped = (text) => text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
const page = (body) => `<!doctype html><title>Notes</title><link rel="stylesheet" href="style.css">${body}`;
const item = ({ id, author, text, title }) => `<li>${escaped(author)}: ${escaped(text)}
  ${title ? `<a href="notes/${id}/file">${escaped(title)}</a>` : ""}</li>`;
const guest = `<p><a href="login">Sign in</a></p>`;
const welcome = (user, token) => `<p>You are ${escaped(user)}.</p>
  <form method="post" action="notes" enctype="multipart/form-data"><input type="hidden" name="token" value="${token}">
  <input name="text" required><input name="file" type="file"><button>Add</button></form>`;
const login = (token) => `<form method="post"><input type="hidden" name="token" value="${token}">
  <input name="user" required placeholder="Your name"><button>Sign in</button></form>`;
