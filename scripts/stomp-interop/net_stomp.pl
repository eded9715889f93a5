# What Net::Stomp must find at the server. A line for each check: column, feature, outcome, reason.
#
#   perl net_stomp.pl checks              all that needs only a server that runs
#   perl net_stomp.pl outage DIRECTORY    the server freezes and restarts meanwhile, see stomp-interop.sh

use strict;
use warnings;
use utf8;
use FindBin;
use Encode 'encode';
use List::Util 'uniq';
use POSIX ':sys_wait_h';

require "$FindBin::Bin/net_stomp_session.pl";
Session->import;

my %COLUMNS = ('perl-1.0' => '1.0', 'perl-1.1' => '1.1', 'perl-1.2' => '1.2');
# How long it may take from the first client that is ready to the server's return.
my $OUTAGE_SECONDS = 60;
my $LARGE_LEN = 200_000;
my ($MESSAGES, $CONSUMERS) = (30, 3);

# What is checked now, and the sessions that it has opened.
my ($column, $version, @sessions);
my $names = 0;

my %CHECKS = (
    connect => sub {
        my ($session, $other) = map { start() } 1 .. 2;
        my $headers = $session->{connected}->headers;
        same('version', $headers->{version}, $version) unless $version eq '1.0';
        check('CONNECTED has no session', $headers->{session});
        check('two sessions have one name', $headers->{session} ne $other->{connected}->headers->{session});
        # This client reads no escapes, and makes ids of its own from the name.
        check("session '$headers->{session}' would have to be escaped", $headers->{session} !~ /[:\\]/);
        # What it calls disconnecting asks for no receipt, and closes at once.
        $_->client->disconnect for $session, $other;
    },

    disconnect => sub {
        my $session = start();
        $session->receipted_frame('DISCONNECT');
        $session->expect_close('the receipt of DISCONNECT');
    },

    subscribe => sub {
        my ($session, $destination) = (start(), '/topic/' . name());
        # In 1.0 a subscription needs no id.
        my %id = $version eq '1.0' ? () : (id => 'first');
        $session->subscribe($destination, %id);
        $session->send($destination, $_) for 'one', 'two';
        my ($one, $two) = map { $session->next } 1 .. 2;
        same('bodies', list($one->body, $two->body), 'one two');
        same('destination', $one->headers->{destination}, $destination);
        same('subscription', $one->headers->{subscription}, $id{id});
        same('content-length', $one->headers->{'content-length'}, 3);
        check('one message-id for two', $one->headers->{'message-id'} ne $two->headers->{'message-id'});
        $session->receipted('unsubscribe', %id ? %id : (destination => $destination));
        $session->send($destination, 'unheard');
        # The id is free again, and nothing of what was sent meanwhile has waited for it.
        $session->subscribe($destination, %id);
        $session->send($destination, 'three');
        same('bodies after a new subscription', $session->bodies(1), 'three');
    },

    'utf-8' => sub {
        my ($session, $destination) = (start(), encode('UTF-8', '/queue/żółw-' . name()));
        $session->subscribe($destination);
        # The client escapes nothing, and takes blanks away at the front.
        my %headers = (encode('UTF-8', 'wąż') => encode('UTF-8', 'zażółć gęślą 日本 🦀'), plain => 'a b');
        my $body = encode('UTF-8', "Пустыня\n日本🦀");
        $session->send($destination, $body, %headers);
        my $message = $session->next;
        same('body', $message->body, $body);
        same("header $_", $message->headers->{$_}, $headers{$_}) for keys %headers;
        same('destination', $message->headers->{destination}, $destination);
    },

    'binary body' => sub {
        my ($session, $destination) = (start(), '/queue/' . name());
        $session->subscribe($destination);
        for my $body (pack('C*', 0 .. 255), "\0\0\0", "text\0with NUL\0", "\xff\xfe") {
            $session->send($destination, $body, bytes_message => 1);
            check('binary body differs', $session->next->body eq $body);
        }
    },

    'large body' => sub {
        my ($session, $destination) = (start(), '/queue/' . name());
        $session->subscribe($destination);
        my $body = pack 'C*', map { ($_ * $_ >> 3) & 0xff } 1 .. $LARGE_LEN;
        $session->send($destination, $body, bytes_message => 1);
        check('large body differs', $session->next->body eq $body);
        # Without content-length: the first NUL ends it.
        my $text = 'x' x $LARGE_LEN;
        $session->send($destination, $text);
        check('large text differs', $session->next->body eq $text);
    },

    'split frames' => sub { absent('there are no messages in TCP') },

    'ack auto' => sub {
        my ($session, $other, $destination) = (start(), start(), '/queue/' . name());
        $session->subscribe($destination, ack => 'auto');
        $session->send($destination, 'taken');
        same('bodies', $session->bodies(1), 'taken');
        $session->drop;
        expect_left($other, $destination);
    },

    'ack client' => sub { acknowledge('client', [2], qw(4 5)) },
    'ack individual' => sub { acknowledge('client-individual', [ 3, 1 ], qw(1 3 5)) },

    nack => sub {
        my ($destination, @pair) = ('/queue/' . name(), start(), start());
        $_->subscribe($destination, ack => 'client-individual') for @pair;
        $pair[0]->send($destination, 'wanted by one');
        my ($refuser, $first) = next_of(@pair);
        check('redelivered at first', ($first->headers->{redelivered} // '') ne 'true');
        $refuser->nack($first);
        my ($other, $second) = next_of(@pair);
        check('redelivered to the client that refused it', $other != $refuser);
        same('body', $second->body, 'wanted by one');
        same('redelivered', $second->headers->{redelivered}, 'true');
        $other->nack($second, requeue => 'false');
        $pair[0]->send($destination, 'next');
        my ($last, $third) = next_of(@pair);
        same('body after one that was dropped', $third->body, 'next');
        $last->ack($third);
    },

    'transaction commit' => sub {
        my ($session, $other, $out, $work) = transaction();
        $session->receipted_frame('COMMIT', transaction => 't');
        same('order', $other->bodies(3), 'outside inside-1 inside-2');
        # Waits for the receipt of the SEND before it sends COMMIT.
        check('send_transactional got no receipt',
            $session->client->send_transactional({ destination => $out, body => 'at-once' }));
        same('body', $other->bodies(1), 'at-once');
        $session->drop;
        expect_left($other, $work);
    },

    'transaction abort' => sub {
        my ($session, $other, $out, $work) = transaction();
        $session->receipted_frame('ABORT', transaction => 't');
        $session->send($out, 'kept');
        same('what came', $other->bodies(2), 'outside kept');
        check('an aborted ACK has the message come again', !@{ $session->{messages} });
        $session->drop;
        expect_left($other, $work, 'task');
    },

    receipts => sub {
        my ($session, $destination) = (start(), '/queue/' . name());
        $session->subscribe($destination, id => 'one', ack => 'client-individual');
        $session->send($destination, 'one');
        $session->ack($session->next);
        $session->send($destination, 'two');
        $session->nack($session->next, requeue => 'false');
        for my $end ('COMMIT', 'ABORT') {
            $session->receipted_frame('BEGIN', transaction => 't');
            $session->send($destination, 'inside', transaction => 't');
            $session->receipted_frame($end, transaction => 't');
        }
        $session->receipted('unsubscribe', id => 'one');
        check('send_with_receipt', $session->client->send_with_receipt({ destination => $destination, body => 'three' }));
    },

    'error destination' => sub {
        my $send = start();
        $send->client->send({ destination => '/nowhere/' . name(), body => 'lost', receipt => 'r-bad' });
        expect_refusal('SEND', $send->refused, 'r-bad');
        my $subscribe = start();
        $subscribe->client->subscribe({ destination => '/queue/', id => 'one', receipt => 'r-bad' });
        expect_refusal('SUBSCRIBE', $subscribe->refused, 'r-bad');
    },

    'error duplicate id' => sub {
        my ($session, $destination) = (start(), '/topic/' . name());
        $session->subscribe($destination, id => 'same');
        $session->client->subscribe({ destination => $destination, id => 'same', receipt => 'r-twice' });
        expect_refusal('SUBSCRIBE', $session->refused, 'r-twice');
    },

    'error transaction' => sub {
        my $commit = start();
        $commit->frame('COMMIT', transaction => 'unknown', receipt => 'r-unknown');
        expect_refusal('COMMIT', $commit->refused, 'r-unknown');
        my $send = start();
        my %headers = (transaction => 'unknown', receipt => 'r-unknown');
        $send->client->send({ destination => '/topic/' . name(), body => 'lost', %headers });
        expect_refusal('SEND', $send->refused, 'r-unknown');
    },

    topics => sub {
        my ($destination, @all) = ('/topic/' . name(), map { start() } 1 .. 3);
        $_->subscribe($destination) for @all;
        $all[1]->send($destination, $_) for 1 .. 3;
        same('bodies', $_->bodies(3), '1 2 3') for @all;
    },

    wildcards => sub {
        my ($topic, $one, $rest, $sender) = ('/topic/' . name(), map { start() } 1 .. 3);
        $one->subscribe("$topic.*");
        $rest->subscribe("$topic.#");
        $sender->send("$topic$_", "at$_") for '', '.a', '.a.b', '.b', '-not', '.end';
        same('bodies of .*', $one->bodies(3), 'at.a at.b at.end');
        my @frames = map { $rest->next } 1 .. 5;
        same('bodies of .#', list(map { $_->body } @frames), 'at at.a at.a.b at.b at.end');
        same('destination', $frames[2]->headers->{destination}, "$topic.a.b");
    },

    competing => sub {
        my ($destination, $sender, @consumers) = ('/queue/' . name(), map { start() } 0 .. $CONSUMERS);
        $_->subscribe($destination) for @consumers;
        # This client takes the body '0' for none.
        $sender->send($destination, $_) for 1 .. $MESSAGES;
        my @taken;
        for my $session (@consumers) {
            # Whatever was before this has come when it comes.
            my $own = '/topic/' . name();
            $session->subscribe($own);
            $session->send($own, 'last');
            my @bodies;
            push @bodies, $session->next->body until @bodies && $bodies[-1] eq 'last';
            pop @bodies;
            check('a consumer has no work', @bodies);
            push @taken, @bodies;
        }
        same('each once', list(sort { $a <=> $b } @taken), list(1 .. $MESSAGES));
    },

    'reply-to' => sub {
        my ($destination, $server, @pair) = ('/queue/' . name(), map { start() } 1 .. 3);
        $server->subscribe($destination);
        # The name of a temporary queue means something else on each connection.
        for my $index (0, 1) {
            my $session = $pair[$index];
            $session->send($destination, 'question', 'reply-to' => '/temp-queue/answers');
            $server->send($server->next->headers->{'reply-to'}, "answer-$index");
            my $answer = $session->next;
            same('answer', $answer->body, "answer-$index");
            same('subscription', $answer->headers->{subscription}, '/temp-queue/answers') unless $version eq '1.0';
        }
    },

    'heart-beats' => sub { absent('the client has none') },
    'silent client' => sub { absent('the client has no heart-beats') },
);

# These call `arrive` once they are connected: the server stops only when all are.
my %OUTAGES = (
    'silent server' => sub { absent('the client has no heart-beats') },

    # The client connects again when it is to send, and subscribes to what it had.
    reconnect => sub {
        my ($directory, $arrive) = @_;
        my ($session, $destination) = (start(), '/topic/' . name());
        $session->client->subscribe({ destination => $destination, id => 'lasting' });
        $arrive->();
        my $until = time + $OUTAGE_SECONDS;
        $session->client->receive_frame({ timeout => 1 }) while $session->client->socket->opened && time < $until;
        check('the connection never ended', !$session->client->socket->opened);
        # A server that goes while the client connects has it say SUBSCRIBE twice to the next one.
        sleep 1 until -e "$directory/restarted" || time >= $until;
        $session->send($destination, 'back');
        same('bodies', $session->bodies(1), 'back');
    },
);

sub start {
    push @sessions, Session->new($version);
    return $sessions[-1];
}

# No dots: those separate the words of a topic.
sub name { return $column =~ s/\.//r . "-$$-" . ++$names }

sub absent { die { absent => $_[0] } }

sub acknowledge {
    my ($mode, $indices, @left) = @_;
    my ($session, $other, $destination) = (start(), start(), '/queue/' . name());
    $session->subscribe($destination, ack => $mode);
    $session->send($destination, $_) for 1 .. 5;
    my @messages = map { $session->next } 1 .. 5;
    $session->ack($messages[$_]) for @$indices;
    $session->drop;
    expect_left($other, $destination, @left);
}

# A session with a task to acknowledge, another that hears of a topic, the topic and the queue.
sub transaction {
    my ($session, $other, $out, $work) = (start(), start(), '/topic/' . name(), '/queue/' . name());
    $other->subscribe($out);
    $session->subscribe($work, ack => 'client-individual');
    $session->send($work, 'task');
    $session->frame('BEGIN', transaction => 't');
    $session->client->send({ destination => $out, body => $_, transaction => 't' }) for 'inside-1', 'inside-2';
    $session->client->ack({ $session->acknowledgement($session->next), transaction => 't' });
    $session->send($out, 'outside');
    return ($session, $other, $out, $work);
}

# The messages that the queue still has, all delivered before, and none beside them.
sub expect_left {
    my ($session, $destination, @bodies) = @_;
    $session->subscribe($destination);
    for my $body (@bodies) {
        my $message = $session->next;
        same('what was left', $message->body, $body);
        same('redelivered', $message->headers->{redelivered}, 'true');
    }
    $session->send($destination, 'marker');
    same('what was left at last', $session->bodies(1), 'marker');
}

sub expect_refusal {
    my ($what, $headers, $receipt) = @_;
    check("ERROR for $what has no message", $headers->{message});
    same("receipt-id of the ERROR for $what", $headers->{'receipt-id'}, $receipt);
}

# Whichever of them has a message, and the message.
sub next_of {
    for (1 .. 60) {
        for my $session (@_) {
            my $message = $session->next(0.05);
            return ($session, $message) if $message;
        }
    }
    die "none of them has a message\n";
}

sub report {
    my ($feature, $body, @arguments) = @_;
    my ($outcome, $reason) = ('ok', '');
    # Every wait has a limit of its own, but a client that writes may wait for ever.
    local $SIG{ALRM} = sub { die "the client hangs\n" };
    alarm $OUTAGE_SECONDS + 20;
    eval { $body->(@arguments); 1 } or do {
        ($outcome, $reason) = ref $@ eq 'HASH' ? ('-', $@->{absent}) : ('FAIL', $@);
    };
    alarm 0;
    $reason =~ s/\s+$//;
    $reason =~ s/\s+/ /g;
    print join("\t", $column, $feature, $outcome, $reason), "\n";
    $_->drop for grep { $_->client->socket->opened } @sessions;
    @sessions = ();
}

# The body in a process of its own for each column, since this client only waits.
sub in_columns {
    my ($body) = @_;
    my @children;
    for my $name (sort keys %COLUMNS) {
        my $child = fork // die "cannot fork: $!";
        if (!$child) {
            ($column, $version) = ($name, $COLUMNS{$name});
            $body->();
            exit 0;
        }
        push @children, $child;
    }
    return @children;
}

sub checks {
    my @children = in_columns(sub { report($_, $CHECKS{$_}) for sort keys %CHECKS });
    waitpid $_, 0 for @children;
}

sub outage {
    my ($directory) = @_;
    pipe my $arrivals, my $arrive or die "no pipe: $!";
    my @children = in_columns(sub {
        close $arrivals;
        report('silent server', $OUTAGES{'silent server'});
        report('reconnect', $OUTAGES{reconnect}, $directory, sub { close $arrive });
    });
    # Its end comes when all have closed it: also one that failed at once has.
    close $arrive;
    readline $arrivals;
    open my $ready, '>', "$directory/net_stomp.ready" or die "$directory: $!";
    waitpid $_, 0 for @children;
}

$| = 1;
my ($mode, @rest) = @ARGV;
{ checks => \&checks, outage => \&outage }->{$mode}->(@rest);
