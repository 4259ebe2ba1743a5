// The notes, with Sequelize.
const { DataTypes, Sequelize } = require("sequelize");

const sequelize = new Sequelize(process.env.DATABASE_URL || "sqlite:dev.sqlite3", { logging: false });
const Note = sequelize.define("note", {
  author: DataTypes.STRING,
  text: DataTypes.STRING,
  title: DataTypes.STRING,
  file: DataTypes.STRING,
}, { timestamps: false });
const ready = sequelize.query("PRAGMA journal_mode = WAL");

exports.all = () => ready.then(() => Note.findAll({ order: ["id"] }));
exports.find = (id) => Note.findByPk(id);
exports.add = (values) => Note.create(values);
