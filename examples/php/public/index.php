<?php
// Notes: a list and a form, in one SQLite database.
session_start();
$db = new PDO('sqlite:' . (getenv('DATABASE_PATH') ?: __DIR__ . '/../dev.sqlite3'));
$db->exec('PRAGMA journal_mode = WAL; PRAGMA busy_timeout = 5000');
$db->exec('CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)');
$_SESSION['token'] ??= bin2hex(random_bytes(16));
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    if (!hash_equals($_SESSION['token'], $_POST['token'] ?? '')) {
        http_response_code(403);
        exit('no token');
    }
    $db->prepare('INSERT INTO notes (text) VALUES (?)')->execute([$_POST['text'] ?? '']);
    header('Location: /');
    exit;
}
?>
<!doctype html>
<title>Notes</title>
<ul>
<?php foreach ($db->query('SELECT text FROM notes ORDER BY id') as $note): ?>
  <li><?= htmlspecialchars($note['text']) ?></li>
<?php endforeach ?>
</ul>
<form method="post">
  <input type="hidden" name="token" value="<?= $_SESSION['token'] ?>">
  <input name="text" required>
  <button>Add</button>
</form>
