class Note < ActiveRecord::Base
  has_one_attached :file
end
