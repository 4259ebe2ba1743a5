module.exports = {
  up: (queryInterface, Sequelize) =>
    queryInterface.createTable("notes", {
      id: { type: Sequelize.INTEGER, primaryKey: true, autoIncrement: true },
      author: Sequelize.STRING,
      text: Sequelize.STRING,
      title: Sequelize.STRING,
      file: Sequelize.STRING,
    }),
  down: (queryInterface) => queryInterface.dropTable("notes"),
};
