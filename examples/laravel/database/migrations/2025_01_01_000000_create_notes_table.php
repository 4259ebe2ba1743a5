<?php

use Illuminate\Database\Migrations\Migration;
use Illuminate\Database\Schema\Blueprint;
use Illuminate\Support\Facades\Schema;

return new class extends Migration
{
    public function up()
    {
        Schema::create('notes', function (Blueprint $table) {
            $table->id();
            $table->string('author');
            $table->string('text');
            $table->string('title')->nullable();
            $table->string('file')->nullable();
            $table->timestamps();
        });
    }
};
