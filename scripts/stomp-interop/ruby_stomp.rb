# What the gem stomp must find at the server. A line for each check: column, feature, outcome, reason.
#
#   ruby ruby_stomp.rb checks                 all that needs only a server that runs
#   ruby ruby_stomp.rb outage DIRECTORY       the server freezes and restarts meanwhile, see stomp-interop.sh
#   ruby ruby_stomp.rb victim COLUMN QUEUE    takes a message of the queue, and waits to be stopped

require 'fileutils'
require_relative 'ruby_stomp_session'

COLUMNS = { 'ruby-1.0' => '1.0', 'ruby-1.1' => '1.1', 'ruby-1.2' => '1.2' }.freeze
BEAT_MS = 1_000
BEATS = { 'heart-beat' => "#{BEAT_MS},#{BEAT_MS}" }.freeze
# An idle time in which a server would miss the client's heart-beats, unless it wants them very rarely.
IDLE_SECONDS = (3..25)
# How long it may take from the first client that is ready to the server's return.
OUTAGE_SECONDS = 60
LARGE_LEN = 200_000
MESSAGES = 30
CONSUMERS = 3
# These only wait, so they do it while the others work.
SLOW = ['heart-beats', 'silent client'].freeze

# The client or the version does not have it.
class Absent < StandardError; end

# One check of one column, with the sessions that it opens.
class Run
  @names = 0
  @lock = Mutex.new

  class << self
    # No dots: those separate the words of a topic.
    def name(column)
      @lock.synchronize { "#{column.delete('.')}-#{Process.pid}-#{@names += 1}" }
    end

    def print(*fields)
      @lock.synchronize { puts fields.map { |field| field.to_s.split.join(' ') }.join("\t") }
    end
  end

  def initialize(column)
    @column = column
    @version = COLUMNS[column]
    @sessions = []
  end

  def report(feature, &arrive)
    outcome, reason = 'ok', ''
    begin
      instance_exec(*arrive, &(CHECKS[feature] || OUTAGES[feature]))
    rescue Absent => e
      outcome, reason = '-', e.message
    rescue StandardError => e
      outcome, reason = 'FAIL', e.is_a?(Failure) ? e.message : e.full_message(highlight: false)[0, 300]
    end
    Run.print(@column, feature, outcome, reason)
    @sessions.each { |session| session.drop if session.client.open? }
  end

  private

  attr_reader :version

  def open(headers = {})
    Session.new(version, headers).tap { |session| @sessions << session }
  end

  def name
    Run.name(@column)
  end

  # The messages that the queue still has, all delivered before, and none beside them.
  def expect_left(session, destination, bodies)
    session.subscribe(destination)
    bodies.each do |body|
      message = session.next
      same('what was left', message.body, body)
      same('redelivered', message.headers['redelivered'], 'true')
    end
    session.send(destination, 'marker')
    same('what was left at last', session.bodies(1), ['marker'])
    session.end
  end

  def expect_refusal(what, headers, receipt)
    check("ERROR for #{what} has no message", headers['message'])
    same("receipt-id of the ERROR for #{what}", headers['receipt-id'], receipt)
  end

  def acknowledge(mode, indices, left)
    session, other, destination = open, open, "/queue/#{name}"
    session.subscribe(destination, ack: mode)
    ('1'..'5').each { |body| session.send(destination, body) }
    messages = Array.new(5) { session.next }
    indices.each { |index| session.ack(messages[index]) }
    session.drop
    expect_left(other, destination, left)
  end

  # Whichever of them has a message, and the message.
  def next_of(sessions)
    until_then = Time.now + WAIT_SECONDS
    until Time.now > until_then
      sessions.each { |session| (message = session.poll) and return [session, message] }
      sleep(0.02)
    end
    raise Failure, 'none of them has a message'
  end

  # A session with a task to acknowledge, another that hears of the topic `out`, and the names.
  def transaction
    session, other, out, work = open, open, "/topic/#{name}", "/queue/#{name}"
    other.subscribe(out)
    session.subscribe(work, ack: 'client-individual')
    session.send(work, 'task')
    session.client.begin('t')
    session.client.publish(out, 'inside 1', transaction: 't')
    session.client.publish(out, 'inside 2', transaction: 't')
    session.client.ack(*session.acknowledgement(session.next, transaction: 't'))
    session.send(out, 'outside')
    [session, other, work]
  end

  def heart_beats?
    raise Absent, '1.0 has no heart-beats' if version == '1.0'
  end

  # How often each side has to be heard in seconds, if this client asks for BEAT_MS.
  def periods(session)
    can, wants = session.connected.headers['heart-beat'].to_s.split(',').map(&:to_i)
    check('the server has no heart-beats', can.to_i.positive? && wants.to_i.positive?)
    [[can, BEAT_MS].max / 1000.0, [wants, BEAT_MS].max / 1000.0]
  end
end

CHECKS = {
  'connect' => lambda do
    session, other = open, open
    same('version', session.client.protocol, version)
    check('CONNECTED has no session', session.client.session)
    check('two sessions have one name', session.client.session != other.client.session)
  end,

  'disconnect' => lambda do
    same('what came for DISCONNECT', open.end&.command, 'RECEIPT')
  end,

  'subscribe' => lambda do
    session, destination = open, "/topic/#{name}"
    # In 1.0 a subscription needs no id.
    id = version == '1.0' ? {} : { id: 'first' }
    session.subscribe(destination, id)
    session.send(destination, 'one')
    session.send(destination, 'two')
    one, two = session.next, session.next
    same('bodies', [one.body, two.body], %w[one two])
    same('destination', one.headers['destination'], destination)
    same('subscription', one.headers['subscription'], id[:id])
    same('content-length', one.headers['content-length'], '3')
    check('one message-id for two', one.headers['message-id'] != two.headers['message-id'])
    session.unsubscribe(destination, id)
    session.send(destination, 'unheard')
    # The id is free again, and nothing of what was sent meanwhile has waited for it.
    session.subscribe(destination, id)
    session.send(destination, 'three')
    same('bodies after a new subscription', session.bodies(1), ['three'])
    session.end
  end,

  'utf-8' => lambda do
    session, destination = open, "/queue/żółw-#{name}"
    session.subscribe(destination)
    headers = { 'wąż' => 'zażółć gęślą 日本 🦀', 'plain' => 'a b' }
    # In 1.1 and 1.2 alike this client escapes what 1.1 does.
    headers['escaped'] = "a:b\nc" unless version == '1.0'
    body = "Пустыня\n日本🦀"
    session.send(destination, body, headers)
    message = session.next
    same('body', message.body.dup.force_encoding('UTF-8'), body)
    headers['destination'] = destination
    found = message.headers.to_a.map { |pair| pair.map { |text| text.dup.force_encoding('UTF-8') } }.to_h
    headers.each { |key, value| same("header #{key}", found[key], value) }
    session.end
  end,

  'binary body' => lambda do
    session, destination = open, "/queue/#{name}"
    session.subscribe(destination)
    bodies = [(0..255).to_a.pack('C*') * 2, "\0\0\0", "text\0with NUL\0", "\xff\xfe"]
    bodies.each do |body|
      session.send(destination, body)
      same('body', session.next.body.b, body.b)
    end
    session.end
  end,

  'large body' => lambda do
    session, destination = open, "/queue/#{name}"
    session.subscribe(destination)
    body = Array.new(LARGE_LEN) { |index| (index * index >> 3) & 0xff }.pack('C*')
    session.send(destination, body)
    check('large body differs', session.next.body.b == body)
    session.end
  end,

  'split frames' => -> { raise Absent, 'there are no messages in TCP' },

  'ack auto' => lambda do
    session, other, destination = open, open, "/queue/#{name}"
    session.subscribe(destination, ack: 'auto')
    session.send(destination, 'taken')
    same('bodies', session.bodies(1), ['taken'])
    session.drop
    expect_left(other, destination, [])
  end,

  'ack client' => -> { acknowledge('client', [2], %w[4 5]) },
  'ack individual' => -> { acknowledge('client-individual', [3, 1], %w[1 3 5]) },

  'nack' => lambda do
    raise Absent, 'the client has no NACK in 1.0' if version == '1.0'

    sessions, destination = [open, open], "/queue/#{name}"
    sessions.each { |session| session.subscribe(destination, ack: 'client-individual') }
    sessions[0].send(destination, 'wanted by one')
    refuser, first = next_of(sessions)
    check('redelivered at first', first.headers['redelivered'] != 'true')
    refuser.nack(first)
    other, second = next_of(sessions)
    check('redelivered to the client that refused it', other != refuser)
    same('body', second.body, 'wanted by one')
    same('redelivered', second.headers['redelivered'], 'true')
    other.nack(second, requeue: 'false')
    sessions[0].send(destination, 'next')
    last, third = next_of(sessions)
    same('body after one that was dropped', third.body, 'next')
    last.ack(third)
    sessions.each(&:end)
  end,

  'transaction commit' => lambda do
    session, other, work = transaction
    session.receipted('COMMIT') { |receipt| session.client.commit('t', receipt) }
    same('order', other.bodies(3), ['outside', 'inside 1', 'inside 2'])
    session.drop
    expect_left(other, work, [])
  end,

  'transaction abort' => lambda do
    session, other, work = transaction
    session.receipted('ABORT') { |receipt| session.client.abort('t', receipt) }
    session.send("/topic/#{name}", 'unheard')
    check('an aborted ACK has the message come again', session.messages.empty?)
    same('what came', other.bodies(1), ['outside'])
    session.drop
    # What was sent inside would come before what is left in the queue.
    expect_left(other, work, ['task'])
  end,

  'receipts' => lambda do
    session, destination = open, "/queue/#{name}"
    session.subscribe(destination, id: 'one', ack: 'client-individual')
    session.send(destination, 'one')
    session.ack(session.next)
    unless version == '1.0'
      session.send(destination, 'two')
      session.nack(session.next, requeue: 'false')
    end
    %i[commit abort].each do |finish|
      session.receipted('BEGIN') { |receipt| session.client.begin('t', receipt) }
      session.send(destination, 'inside', transaction: 't')
      session.receipted(finish) { |receipt| session.client.public_send(finish, 't', receipt) }
    end
    session.unsubscribe(destination, id: 'one')
    session.end
  end,

  'error destination' => lambda do
    send = open
    send.client.publish("/nowhere/#{name}", 'lost', receipt: 'r-bad')
    expect_refusal('SEND', send.refused, 'r-bad')
    subscribe = open
    subscribe.client.subscribe('/queue/', id: 'one', receipt: 'r-bad')
    expect_refusal('SUBSCRIBE', subscribe.refused, 'r-bad')
  end,

  'error duplicate id' => lambda do
    session, destination = open, "/topic/#{name}"
    session.subscribe(destination, id: 'same')
    session.client.subscribe(destination, id: 'same', receipt: 'r-twice')
    expect_refusal('SUBSCRIBE', session.refused, 'r-twice')
  end,

  'error transaction' => lambda do
    commit = open
    commit.client.commit('unknown', receipt: 'r-unknown')
    expect_refusal('COMMIT', commit.refused, 'r-unknown')
    send = open
    send.client.publish("/topic/#{name}", 'lost', transaction: 'unknown', receipt: 'r-unknown')
    expect_refusal('SEND', send.refused, 'r-unknown')
  end,

  'topics' => lambda do
    sessions, destination = Array.new(3) { open }, "/topic/#{name}"
    sessions.each { |session| session.subscribe(destination) }
    %w[1 2 3].each { |body| sessions[1].send(destination, body) }
    sessions.each { |session| same('bodies', session.bodies(3), %w[1 2 3]) }
    sessions.each(&:end)
  end,

  'wildcards' => lambda do
    one, rest, sender, topic = open, open, open, "/topic/#{name}"
    one.subscribe("#{topic}.*")
    rest.subscribe("#{topic}.#")
    ['', '.a', '.a.b', '.b', '-not', '.end'].each { |ending| sender.send(topic + ending, "at#{ending}") }
    same('bodies of .*', one.bodies(3), %w[at.a at.b at.end])
    all = Array.new(5) { rest.next }
    same('bodies of .#', all.map(&:body), %w[at at.a at.a.b at.b at.end])
    same('destination', all[2].headers['destination'], "#{topic}.a.b")
    [one, rest, sender].each(&:end)
  end,

  'competing' => lambda do
    sender, destination = open, "/queue/#{name}"
    sessions = Array.new(CONSUMERS) { open }
    sessions.each { |session| session.subscribe(destination) }
    sent = (0...MESSAGES).map(&:to_s)
    sent.each { |body| sender.send(destination, body) }
    # A message to each tells that whatever was before it has come.
    taken = sessions.map do |session|
      own = "/topic/#{name}"
      session.subscribe(own)
      session.send(own, 'last')
      [].tap { |bodies| bodies << session.next.body until bodies.last == 'last' }[0..-2]
    end
    same('each once', taken.flatten.sort, sent.sort)
    check("consumers without work: #{taken.map(&:size)}", taken.none?(&:empty?))
    [sender, *sessions].each(&:end)
  end,

  'reply-to' => lambda do
    one, two, server, destination = open, open, open, "/queue/#{name}"
    server.subscribe(destination)
    # The name of a temporary queue means something else on each connection.
    [[one, 'answer for one'], [two, 'answer for two']].each do |session, to|
      session.send(destination, 'question', 'reply-to' => '/temp-queue/answers')
      server.send(server.next.headers['reply-to'], to)
      answer = session.next
      same('answer', answer.body, to)
      same('subscription', answer.headers['subscription'], '/temp-queue/answers') unless version == '1.0'
    end
    [one, two, server].each(&:end)
  end,

  'heart-beats' => lambda do
    heart_beats?
    session = open(BEATS)
    server, client = periods(session)
    idle = (2.5 * client).clamp(IDLE_SECONDS)
    sleep(idle)
    # The client looks for one in each period, and may do so just before it comes.
    expected, beats = idle / server, session.client.hbrecv_count
    check("#{beats} heart-beats of the server in #{idle} s", beats >= expected / 2 - 1)
    destination = "/queue/#{name}"
    session.subscribe(destination)
    session.send(destination, 'alive')
    same('bodies', session.bodies(1), ['alive'])
    session.end
  end,

  'silent client' => lambda do
    heart_beats?
    session, destination = open, "/queue/#{name}"
    session.send(destination, 'held')
    reader, writer = IO.pipe
    victim = spawn(RbConfig.ruby, __FILE__, 'victim', @column, destination, out: writer)
    writer.close
    begin
      check('the victim got no message', reader.wait_readable(20) && (line = reader.gets))
      Process.kill('STOP', victim)
      session.subscribe(destination, ack: 'client')
      # Only looked for, since the time limit of a session is too short for this.
      until_then = Time.now + 3 * line.to_f + 3
      sleep(0.1) until (message = session.poll) || Time.now > until_then
      check('the message of a silent client does not come back', message)
      same('body', message.body, 'held')
      same('redelivered', message.headers['redelivered'], 'true')
      session.ack(message)
    ensure
      Process.kill('KILL', victim)
      Process.wait(victim)
    end
    session.end
  end
}.freeze

# These call `arrive` once they are connected: the server stops only when all are.
OUTAGES = {
  'silent server' => lambda do |arrive|
    heart_beats?
    session = open(BEATS)
    server, = periods(session)
    sleep(3 * server)
    check('no heart-beat before the outage', session.client.hbrecv_count.positive?)
    arrive.call
    # The client looks for one in each period without any margin, so one that it misses may only be late.
    until_then = Time.now + OUTAGE_SECONDS
    heard = Time.now
    while Time.now < until_then && Time.now - heard < 2.5 * server
      heard = Time.now if session.client.hb_received
      sleep(0.1)
    end
    check('the client did not miss heart-beats', !session.client.hb_received)
  end,

  # With `reliable` the client connects again and subscribes to what it had.
  'reconnect' => lambda do |arrive|
    lasting = { reliable: true, initial_reconnect_delay: 0.3, use_exponential_back_off: false }
    client = Stomp::Client.new(Session.parameters(version).merge(lasting))
    destination, inbox = "/topic/#{name}", Queue.new
    client.subscribe(destination) { |message| inbox << message.body }
    before = client.connection_frame.headers['session']
    arrive.call
    until_then = Time.now + OUTAGE_SECONDS
    sleep(0.1) while client.connection_frame&.headers&.fetch('session') == before && Time.now < until_then
    # One that is sent before the subscription would be lost, so more than one is.
    until inbox.size.positive? || Time.now > until_then
      client.publish(destination, 'back')
      sleep(0.3)
    end
    check('no message on a new connection', inbox.size.positive?)
    same('body', inbox.pop, 'back')
    check('the connection never ended', client.connection_frame.headers['session'] != before)
    client.close
  end
}.freeze

def checks
  quick = CHECKS.keys - SLOW
  COLUMNS.keys.product([quick, *SLOW.map { |feature| [feature] }]).map do |column, features|
    Thread.new { features.each { |feature| Run.new(column).report(feature) } }
  end.each(&:join)
end

def outage(directory)
  runs = COLUMNS.keys.product(OUTAGES.keys)
  lock, arrived = Mutex.new, {}
  runs.map do |run|
    arrive = lambda do
      lock.synchronize do
        arrived[run] = true
        FileUtils.touch("#{directory}/ruby_stomp.ready") if arrived.size == runs.size
      end
    end
    # One that fails at once must not keep the others waiting.
    Thread.new { Run.new(run[0]).report(run[1], &arrive) and arrive.call }
  end.each(&:join)
end

def victim(column, destination)
  session = Session.new(COLUMNS[column], BEATS)
  session.subscribe(destination, ack: 'client')
  session.next
  puts [session.connected.headers['heart-beat'].split(',').last.to_i, BEAT_MS].max / 1000.0
  $stdout.flush
  sleep(OUTAGE_SECONDS)
end

$stdout.sync = true
__send__(ARGV[0], *ARGV[1..])
