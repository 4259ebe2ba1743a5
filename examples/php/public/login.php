<?php
require __DIR__ . '/../app.php';
session_start();

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    check_token();
    session_regenerate_id(true);
    $_SESSION['user'] = $_POST['user'] ?? '';
    redirect('/');
}
?>
<!doctype html>
<title>Sign in</title>
<link rel="stylesheet" href="style.css">
<form method="post">
  <input type="hidden" name="token" value="<?= token() ?>">
  <input name="user" required placeholder="Your name">
  <button>Sign in</button>
</form>
