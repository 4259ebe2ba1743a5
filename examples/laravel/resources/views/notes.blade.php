@extends('layout')
@section('body')
<ul>
@foreach ($notes as $note)
  <li>{{ $note->author }}: {{ $note->text }}
    @if ($note->file) <a href="{{ route('notes.file', $note) }}">{{ $note->title }}</a> @endif
  </li>
@endforeach
</ul>
@if (session('user'))
<p>You are {{ session('user') }}.</p>
<form method="post" action="{{ route('notes.store') }}" enctype="multipart/form-data">
  @csrf
  <input name="text" required>
  <input name="file" type="file">
  <button>Add</button>
</form>
@else
<p><a href="{{ route('login') }}">Sign in</a></p>
@endif
@endsection
