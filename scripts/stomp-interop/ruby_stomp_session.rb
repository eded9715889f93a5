# A connection of the gem stomp whose every wait is bounded.

require 'stomp'
require 'timeout'

WAIT_SECONDS = 6
TCP = ENV.fetch('STOMP_TCP').rpartition(':')
VHOST = ENV.fetch('STOMP_VHOST', '127.0.0.1')

class Failure < StandardError; end

def check(what, holds)
  raise Failure, what unless holds
end

def same(what, actual, expected)
  check("#{what}: #{actual.inspect[0, 200]} instead of #{expected.inspect[0, 200]}", actual == expected)
end

# Receives frames only when something is waited for, as Stomp::Connection does.
class Session
  attr_reader :client, :version, :messages

  # What the gem takes to connect. Without headers it speaks 1.0.
  def self.parameters(version, headers = {})
    headers = { 'accept-version' => version, 'host' => VHOST }.merge(headers) unless version == '1.0'
    # The time limit of the gem is for a frame that has begun.
    { hosts: [{ host: TCP.first, port: TCP.last.to_i }], reliable: false, connect_headers: headers,
      connread_timeout: WAIT_SECONDS, connect_timeout: WAIT_SECONDS, logger: Quiet.new }
  end

  def initialize(version, headers = {})
    @version = version
    @client = Stomp::Connection.new(Session.parameters(version, headers))
    @messages = []
    @serial = 0
    same('the answer to CONNECT', connected.command, 'CONNECTED')
  end

  def connected
    client.connection_frame
  end

  def next
    await('a message') { @messages.any? }
    @messages.shift
  end

  # A message that is there already, or nil.
  def poll
    @messages.shift || client.poll
  end

  def bodies(count)
    Array.new(count) { self.next.body }
  end

  # Yields headers that ask for a receipt, and waits for it.
  def receipted(what)
    receipt = "r-#{@serial += 1}"
    yield({ receipt: receipt })
    await("the receipt of #{what}") { |frame| frame&.command == 'RECEIPT' && frame.headers['receipt-id'] == receipt }
  end

  # Once it returns, the subscription is active. In 1.0 it has an id only if it is given one.
  def subscribe(destination, headers = {})
    headers = { id: "s-#{@serial += 1}" }.merge(headers) unless version == '1.0'
    receipted("SUBSCRIBE #{destination}") { |receipt| client.subscribe(destination, headers.merge(receipt)) }
  end

  def unsubscribe(destination, headers = {})
    receipted('UNSUBSCRIBE') { |receipt| client.unsubscribe(destination, headers.merge(receipt)) }
  end

  def send(destination, body, headers = {})
    receipted("SEND #{destination}") { |receipt| client.publish(destination, body, headers.merge(receipt)) }
  end

  def ack(message, headers = {})
    receipted('ACK') { |receipt| client.ack(*acknowledgement(message, headers.merge(receipt))) }
  end

  def nack(message, headers = {})
    receipted('NACK') { |receipt| client.nack(*acknowledgement(message, headers.merge(receipt))) }
  end

  # What ACK and NACK call a message, which differs in all three versions.
  def acknowledgement(message, headers = {})
    case version
    when '1.2' then [message.headers['ack'], headers]
    when '1.1' then [message.headers['message-id'], headers.merge(subscription: message.headers['subscription'])]
    else [message.headers['message-id'], headers]
    end
  end

  # The headers of the ERROR frame, which a close must follow.
  def refused
    error = bounded('the ERROR') { client.receive }
    same('what came for an error', error&.command, 'ERROR')
    same('what came after ERROR', bounded('the close after ERROR') { client.receive }, nil)
    error.headers
  end

  # DISCONNECT. The client waits for its receipt, and closes.
  def end
    bounded('the receipt of DISCONNECT') { client.disconnect(receipt: 'the last') }
    client.disconnect_receipt
  end

  # Ends the connection without a word, for which the client has nothing to call.
  def drop
    client.__send__(:close_socket)
  end

  private

  # Receives until the block, which gets each frame that is no message, is content.
  def await(what)
    bounded(what) do
      frame = nil
      until yield(frame)
        frame = client.receive
        check("closed instead of #{what}", frame)
        check("ERROR instead of #{what}: #{frame.headers}", frame.command != 'ERROR')
        next unless frame.command == 'MESSAGE'

        @messages << frame
        frame = nil
      end
    end
  end

  def bounded(what, &body)
    Timeout.timeout(WAIT_SECONDS, Failure, "#{what} did not come within #{WAIT_SECONDS} s", &body)
  end
end

# The gem tells of connections that end, and here many are meant to.
class Quiet < Stomp::NullLogger
  def on_miscerr(*) = true

  def on_connectfail(*) = true
end

$VERBOSE = nil
