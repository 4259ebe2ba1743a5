Rails.application.routes.draw do
  root "notes#index"
  resources :notes, only: :create
  resource :session, only: [:new, :create]
end
