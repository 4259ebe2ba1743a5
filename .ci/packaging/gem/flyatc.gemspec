# Built by build.py in a folder that has flyatc/ beside exe/: the folder of `make dist`.
Gem::Specification.new do |spec|
  spec.name = "flyatc"
  spec.version = ENV.fetch("FLYATC_VERSION")
  spec.platform = ENV.fetch("FLYATC_PLATFORM")
  spec.summary = "HTTP proxy in front of a Rails app, in thruster's place: cache, compression, X-Sendfile; or many tenants"
  spec.description = "flyatc with its own Python, which needs glibc and nothing else."
  spec.authors = ["flyatc contributors"]
  spec.license = "MIT"
  spec.required_ruby_version = ">= 2.7"
  spec.files = Dir["{exe,flyatc}/**/*"].select { |path| File.file?(path) }
  spec.bindir = "exe"
  spec.executables = %w[flyatc thrust]
  spec.metadata = { "rubygems_mfa_required" => "true" }
end
