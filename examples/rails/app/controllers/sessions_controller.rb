class SessionsController < ApplicationController
  def new
  end

  def create
    reset_session
    session[:user] = params.require(:user)
    redirect_to root_path
  end
end
