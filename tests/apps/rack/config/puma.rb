# As a new Rails app has it, but for the address: tests listen on loopback only.
port ENV.fetch("PORT", 3000), "127.0.0.1"
threads 5, 5
workers ENV.fetch("WEB_CONCURRENCY", 0)
preload_app! false # a phased restart loads the app anew
