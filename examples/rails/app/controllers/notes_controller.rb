class NotesController < ApplicationController
  def index
    @notes = Note.with_attached_file.order(:id)
  end

  def create
    return redirect_to new_session_path unless session[:user]

    Note.create!(author: session[:user], **params.require(:note).permit(:text, :file))
    redirect_to root_path
  end
end
