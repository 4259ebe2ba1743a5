// An Express app: login, logout, and sessions in signed cookies, with Express's own settings for cookies.
const crypto = require("crypto");
const path = require("path");
const express = require(require.resolve("express", { paths: [path.join(__dirname, "../../examples/customers")] }));

const { PORT, PREFIX = "", SESSION_SECRET } = process.env;
const sign = (text) => crypto.createHmac("sha256", SESSION_SECRET).update(text).digest("hex");

function cookies(request) {
  const pairs = (request.headers.cookie || "").split("; ").map((pair) => pair.split("="));
  return Object.fromEntries(pairs.map(([name, value]) => [name, decodeURIComponent(value || "")]));
}

function user(request) {
  const [name, signature] = (cookies(request).session || "").split(".");
  return signature && signature === sign(name) ? name : "-";
}

const app = express();
app.use(express.urlencoded({ extended: false }));
const pages = express.Router();
pages.get("/", (request, response) => response.send(`user: ${user(request)}`));
pages.get("/login", (request, response) => {
  const token = crypto.randomBytes(16).toString("hex");
  response.cookie("csrf", token, { sameSite: "lax" });
  response.send(`<form method=post><input type="hidden" name="csrf" value="${token}"><input name=user></form>`);
});
pages.post("/login", (request, response) => {
  if (!request.body.csrf || request.body.csrf !== cookies(request).csrf) return response.status(403).send("no token");
  response.cookie("session", `${request.body.user}.${sign(request.body.user)}`, { httpOnly: true });
  response.redirect(`${PREFIX}/`);
});
pages.get("/logout", (request, response) => {
  response.clearCookie("session");
  response.redirect(`${PREFIX}/`);
});
app.use(PREFIX || "/", pages);
app.listen(PORT, "127.0.0.1");
