<?php
// Notes: a list, and a form for those who have signed in.
require __DIR__ . '/../app.php';
session_start();

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    check_token();
    if (!isset($_SESSION['user'])) {
        redirect('/login.php');
    }
    $database = database();
    $file = ($_FILES['file']['error'] ?? UPLOAD_ERR_NO_FILE) === UPLOAD_ERR_OK ? $_FILES['file'] : null;
    $database->prepare('INSERT INTO notes (author, text, file) VALUES (?, ?, ?)')
        ->execute([$_SESSION['user'], $_POST['text'] ?? '', $file['name'] ?? null]);
    if ($file) {
        is_dir(uploads()) || mkdir(uploads(), recursive: true);
        move_uploaded_file($file['tmp_name'], uploads() . '/' . $database->lastInsertId());
    }
    redirect('/');
}
?>
<!doctype html>
<title>Notes</title>
<link rel="stylesheet" href="style.css">
<ul>
<?php foreach (database()->query('SELECT * FROM notes ORDER BY id') as $note): ?>
  <li><?= h($note['author']) ?>: <?= h($note['text']) ?>
    <?php if ($note['file']): ?><a href="file.php?id=<?= $note['id'] ?>"><?= h($note['file']) ?></a><?php endif ?>
  </li>
<?php endforeach ?>
</ul>
<?php if (isset($_SESSION['user'])): ?>
<p>You are <?= h($_SESSION['user']) ?>.</p>
<form method="post" enctype="multipart/form-data">
  <input type="hidden" name="token" value="<?= token() ?>">
  <input name="text" required>
  <input name="file" type="file">
  <button>Add</button>
</form>
<?php else: ?>
<p><a href="login.php">Sign in</a></p>
<?php endif ?>
