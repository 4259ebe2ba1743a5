<?php

namespace App\Http\Controllers;

use App\Models\Note;
use Illuminate\Http\Request;
use Illuminate\Routing\Controller;
use Illuminate\Support\Facades\Storage;

class NoteController extends Controller
{
    public function index()
    {
        return view('notes', ['notes' => Note::orderBy('id')->get()]);
    }

    public function store(Request $request)
    {
        if (! $request->session()->has('user')) {
            return redirect()->route('login');
        }
        $file = $request->file('file');
        Note::create([
            'author' => $request->session()->get('user'),
            'text' => $request->input('text', ''),
            'title' => $file ? $file->getClientOriginalName() : null,
            'file' => $file ? $file->store('files') : null,
        ]);

        return redirect()->route('notes');
    }

    public function file(Note $note)
    {
        abort_unless($note->file, 404);

        return Storage::download($note->file, $note->title);
    }

    public function login(Request $request)
    {
        $request->session()->regenerate();
        $request->session()->put('user', $request->input('user'));

        return redirect()->route('notes');
    }
}
