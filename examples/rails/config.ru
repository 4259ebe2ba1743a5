require_relative "config/environment"

map(ENV.fetch("RAILS_RELATIVE_URL_ROOT", "/")) { run Rails.application }
