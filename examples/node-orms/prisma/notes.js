// The notes, with Prisma and its adapter for SQLite files.
const { PrismaLibSql } = require("@prisma/adapter-libsql");
const { PrismaClient } = require("./generated");

const url = process.env.DATABASE_URL || "file:dev.sqlite3";
const prisma = new PrismaClient({ adapter: new PrismaLibSql({ url }) });
const ready = prisma.$queryRaw`PRAGMA journal_mode = WAL`;

exports.all = () => ready.then(() => prisma.note.findMany({ orderBy: { id: "asc" } }));
exports.find = (id) => prisma.note.findUnique({ where: { id } });
exports.add = (data) => prisma.note.create({ data });
