<?php

use App\Http\Controllers\NoteController;
use Illuminate\Support\Facades\Route;

Route::get('/', [NoteController::class, 'index'])->name('notes');
Route::post('/notes', [NoteController::class, 'store'])->name('notes.store');
Route::get('/notes/{note}/file', [NoteController::class, 'file'])->name('notes.file');
Route::view('/login', 'login')->name('login');
Route::post('/login', [NoteController::class, 'login']);
