const { DataSource, EntitySchema } = require("typeorm");

const text = { type: "varchar", nullable: true };
const Note = new EntitySchema({
  name: "Note",
  tableName: "notes",
  columns: {
    id: { type: "integer", primary: true, generated: true },
    author: text,
    text,
    title: text,
    file: text,
  },
});

module.exports = new DataSource({
  type: "better-sqlite3",
  database: process.env.DATABASE_PATH || "dev.sqlite3",
  driver: require("libsql"),
  enableWAL: true,
  entities: [Note],
  migrations: ["migrations/*.js"],
});
