<?php

return [
    'default' => 'local',
    'disks' => [
        'local' => [
            'driver' => 'local',
            'root' => env('UPLOADS', storage_path('app')),
        ],
    ],
];
