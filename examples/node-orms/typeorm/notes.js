// The notes, with TypeORM.
const source = require("./data-source");

const notes = source.initialize().then(() => source.getRepository("Note"));

exports.all = async () => (await notes).find({ order: { id: "ASC" } });
exports.find = async (id) => (await notes).findOneBy({ id });
exports.add = async (values) => (await notes).insert(values);
