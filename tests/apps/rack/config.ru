# An ordinary Rack app, for Puma: Ruby's standard library only. The last segment of the path decides:
#
#   echo      JSON: method, script_name, path, query, length and sha256 of the body, pid
#   page      a page of 20 KB, made anew each time
#   asset     the same for everybody, for a year, with a count of how often it was asked for
#   file      ?name=: a file of $FILES, by X-Sendfile where the proxy offers that, as Rack::Sendfile does
#   stream    ?n=3&pause=0.2: lines, one by one
#   ws        a WebSocket by rack.hijack: every text comes back; one message is one frame of less than 126 octets
require "digest/sha1"
require "digest/sha2" # now: two threads that load it with the first requests collide
require "json"
require "uri"

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" # RFC 6455, section 1.3
PAGE = "<!doctype html><title>A page</title>" + (0...600).map { |n| "<p>Paragraph #{n} of a page</p>\n" }.join
ASKED = Hash.new(0)

def echo(env)
  digest, length = Digest::SHA256.new, 0
  while (piece = env["rack.input"].read(65536))
    digest << piece
    length += piece.bytesize
  end
  told = { method: env["REQUEST_METHOD"], script_name: env["SCRIPT_NAME"], path: env["PATH_INFO"],
           query: env["QUERY_STRING"], length: length, sha256: digest.hexdigest, pid: Process.pid }
  [200, { "Content-Type" => "application/json" }, [JSON.generate(told)]]
end

def asset
  ASKED[:asset] += 1
  headers = { "Content-Type" => "text/css", "Cache-Control" => "public, max-age=31536000", "ETag" => '"abc"' }
  [200, headers, ["/* asked for #{ASKED[:asset]} times */\n" + "body { margin: 0 }\n" * 200]]
end

def file(env, name)
  path = File.join(ENV.fetch("FILES"), name)
  return [200, { "Content-Type" => "text/plain" }, File.open(path)] unless env["HTTP_X_SENDFILE_TYPE"] == "X-Sendfile"

  [200, { "Content-Type" => "text/plain", "X-Sendfile" => path, "Content-Length" => "0" }, []]
end

def stream(count, pause)
  lines = Enumerator.new do |out|
    count.times do |n|
      sleep pause if n > 0
      out << "line #{n}\n"
    end
  end
  [200, { "Content-Type" => "text/plain" }, lines]
end

def websocket(env)
  env["rack.hijack"].call
  io = env["rack.hijack_io"]
  accept = [Digest::SHA1.digest(env["HTTP_SEC_WEBSOCKET_KEY"] + GUID)].pack("m0")
  io.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" \
           "Sec-WebSocket-Accept: #{accept}\r\n\r\n")
  Thread.new { talk(io) }
  [-1, {}, []] # the server has nothing to do with it any more
end

def talk(io)
  while (head = io.read(2)&.bytes)
    mask = io.read(4).bytes
    payload = io.read(head[1] & 0x7f).bytes.each_with_index.map { |octet, at| octet ^ mask[at % 4] }.pack("C*")
    io.write([head[0], payload.bytesize].pack("CC") + payload) # a close comes back, too
    break if head[0] & 0x0f == 8
  end
ensure
  io.close
end

APP = lambda do |env|
  asked = URI.decode_www_form(env["QUERY_STRING"]).to_h
  case env["PATH_INFO"].split("/").last
  when "echo" then echo(env)
  when "page" then [200, { "Content-Type" => "text/html; charset=utf-8" }, [PAGE]]
  when "asset" then asset
  when "file" then file(env, asked["name"])
  when "stream" then stream(asked["n"].to_i, asked["pause"].to_f)
  when "ws" then websocket(env)
  else [404, { "Content-Type" => "text/plain" }, ["none\n"]]
  end
end

map(ENV.fetch("RAILS_RELATIVE_URL_ROOT", "/")) { run APP }
