<!doctype html>
<html lang="en">
<head>
  <title>Notes</title>
  <link rel="stylesheet" href="{{ asset('style.css') }}">
</head>
<body>
@yield('body')
</body>
</html>
