// The notes, in one SQLite database. node-orms has the same with Sequelize, TypeORM and Prisma.
const Database = require("better-sqlite3");

const db = new Database(process.env.DATABASE_PATH || "dev.sqlite3");
db.pragma("journal_mode = WAL");
db.pragma("busy_timeout = 5000");
db.exec("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, author TEXT, text TEXT, title TEXT, file TEXT)");

exports.all = async () => db.prepare("SELECT * FROM notes ORDER BY id").all();
exports.find = async (id) => db.prepare("SELECT * FROM notes WHERE id = ?").get(id);
exports.add = async ({ author, text, title, file }) =>
  db.prepare("INSERT INTO notes (author, text, title, file) VALUES (?, ?, ?, ?)").run(author, text, title, file);
