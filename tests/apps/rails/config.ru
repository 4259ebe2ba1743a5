# A Rails app in one file: login, logout, and sessions in encrypted cookies, with Rails' own settings for cookies.
require "action_controller/railtie"

class App < Rails::Application
  config.root = __dir__
  config.eager_load = true
  config.logger = Logger.new($stderr, level: :warn)
  config.session_store :cookie_store, key: "_app_session"
  config.secret_key_base = ENV.fetch("SECRET_KEY_BASE")
  config.relative_url_root = ENV["RAILS_RELATIVE_URL_ROOT"]
end

App.initialize!

class PagesController < ActionController::Base
  protect_from_forgery with: :exception
  rescue_from(ActionController::InvalidAuthenticityToken) { render plain: "no token", status: 403 }

  def home = render(plain: "user: #{session.fetch(:user, "-")}")

  def form = render(inline: "<%= form_tag('') { text_field_tag(:user) } %>")

  def login
    session[:user] = params[:user]
    redirect_to home_path
  end

  def logout
    reset_session
    redirect_to home_path
  end
end

App.routes.draw do
  get "/", to: "pages#home", as: :home
  get "login", to: "pages#form"
  post "login", to: "pages#login"
  get "logout", to: "pages#logout"
end
map(ENV.fetch("RAILS_RELATIVE_URL_ROOT", "/")) { run App }
