<?php
// What all pages share.

function database(): PDO
{
    $database = new PDO('sqlite:' . (getenv('DATABASE_PATH') ?: __DIR__ . '/dev.sqlite3'));
    $database->exec('PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL');
    $database->exec('CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, author TEXT, text TEXT, file TEXT)');
    return $database;
}

function uploads(): string
{
    return getenv('UPLOADS') ?: __DIR__ . '/uploads';
}

/** Return the token of this session, which each form must have. */
function token(): string
{
    return $_SESSION['token'] ??= bin2hex(random_bytes(16));
}

/** End the request with 403 if a form came without it. */
function check_token(): void
{
    if (!hash_equals(token(), $_POST['token'] ?? '')) {
        http_response_code(403);
        exit('The form has expired. Go back, reload the page and send it again.');
    }
}

function redirect(string $location): never
{
    header("Location: $location", true, 303);
    exit;
}

function h(string $text): string
{
    return htmlspecialchars($text);
}
