Rails.application.configure do
  config.cache_classes = true
  config.eager_load = true
  config.consider_all_requests_local = false
  config.action_controller.perform_caching = true
  config.public_file_server.enabled = ENV["RAILS_SERVE_STATIC_FILES"].present?
  config.assets.compile = false
  config.action_dispatch.x_sendfile_header = "X-Sendfile" # flyatc sends the uploads
  config.active_storage.service = :local
  config.force_ssl = ENV.key?("FLY_APP_NAME")
  config.log_level = :info
  config.active_record.dump_schema_after_migration = false

  if ENV["RAILS_LOG_TO_STDOUT"].present?
    config.logger = ActiveSupport::Logger.new($stdout)
  end
end
