module.exports = class CreateNotes1735689600000 {
  up(runner) {
    return runner.query(
      "CREATE TABLE notes (id integer PRIMARY KEY AUTOINCREMENT, author varchar, text varchar, title varchar, file varchar)",
    );
  }

  down(runner) {
    return runner.query("DROP TABLE notes");
  }
};
