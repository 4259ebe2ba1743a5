@extends('layout')
@section('body')
<form method="post">
  @csrf
  <input name="user" required placeholder="Your name">
  <button>Sign in</button>
</form>
@endsection
