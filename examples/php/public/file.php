<?php
// The file of a note.
require __DIR__ . '/../app.php';

$found = database()->prepare('SELECT id FROM notes WHERE id = ? AND file IS NOT NULL');
$found->execute([$_GET['id'] ?? '']);
$id = $found->fetchColumn();
if ($id === false) {
    http_response_code(404);
    exit('No such file.');
}
header('Content-Type: application/octet-stream');
header('Content-Disposition: attachment');
header('X-Sendfile: ' . uploads() . "/$id"); // flyatc sends it
