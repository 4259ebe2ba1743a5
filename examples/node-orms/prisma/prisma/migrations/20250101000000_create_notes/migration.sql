CREATE TABLE "notes" (
    "id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    "author" TEXT,
    "text" TEXT,
    "title" TEXT,
    "file" TEXT
);
