<?php
// A PHP app: login, logout, and PHP's own sessions, with its own settings for cookies. Run by php -S with this router.
session_start();
$prefix = getenv("PREFIX") ?: "";
$path = substr(parse_url($_SERVER["REQUEST_URI"], PHP_URL_PATH), strlen($prefix));
if ($path === "/login" && $_SERVER["REQUEST_METHOD"] === "POST") {
    if (!hash_equals($_SESSION["csrf"] ?? "none", $_POST["csrf"] ?? "")) {
        http_response_code(403);
        exit("no token");
    }
    $_SESSION["user"] = $_POST["user"];
    header("Location: $prefix/", true, 302);
} elseif ($path === "/login") {
    $_SESSION["csrf"] = bin2hex(random_bytes(16));
    echo "<form method=post><input type=\"hidden\" name=\"csrf\" value=\"$_SESSION[csrf]\"><input name=user></form>";
} elseif ($path === "/logout") {
    session_destroy();
    header("Location: $prefix/", true, 302);
} else {
    echo "user: ", $_SESSION["user"] ?? "-";
}
