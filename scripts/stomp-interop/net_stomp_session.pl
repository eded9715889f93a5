# A connection of Net::Stomp whose every wait is bounded.

package Session;

use strict;
use warnings;
use utf8;
use Exporter 'import';
use List::Util 'first';
use Net::Stomp;

our @EXPORT = qw(check same list);

my $WAIT_SECONDS = 6;
my ($HOST, $PORT) = $ENV{STOMP_TCP} =~ /^(.+):(\d+)$/;
my $VHOST = $ENV{STOMP_VHOST} // '127.0.0.1';

sub check {
    my ($what, $holds) = @_;
    die "$what\n" unless $holds;
}

sub same {
    my ($what, $actual, $expected) = map { $_ // 'none' } @_;
    die sprintf("%s: '%.200s' instead of '%.200s'\n", $what, $actual, $expected) if $actual ne $expected;
}

sub list { return join ' ', map { $_ // 'none' } @_ }

# Without headers the client speaks 1.0. It keeps to no version's rules itself, so what they ask for is said here.
sub new {
    my ($class, $version) = @_;
    my $client = Net::Stomp->new({
        hostname => $HOST, port => $PORT, timeout => $WAIT_SECONDS, receipt_timeout => $WAIT_SECONDS,
        connect_delay => 1, reconnect_attempts => 30,
    });
    my $self = bless { client => $client, version => $version, messages => [], serial => 0 }, $class;
    my %headers = $version eq '1.0' ? () : ('accept-version' => $version, host => $VHOST);
    $self->{connected} = $client->connect(\%headers);
    same('the answer to CONNECT', $self->{connected} && $self->{connected}->command, 'CONNECTED');
    return $self;
}

sub client { return $_[0]{client} }

sub id { return 's-' . ++$_[0]{serial} }

# The next message, those included that came while something else was waited for.
sub next {
    my ($self, $seconds) = @_;
    return shift @{ $self->{messages} } if @{ $self->{messages} };
    my $frame = $self->{client}->receive_frame({ timeout => $seconds // $WAIT_SECONDS });
    return undef if !$frame && defined $seconds;
    same('what came for a message', $frame && list($frame->command, %{ $frame->headers }{message}), list('MESSAGE', 'message', undef));
    return $frame;
}

sub bodies {
    my ($self, $count) = @_;
    return list(map { $self->next->body } 1 .. $count);
}

# Calls the client with headers that ask for a receipt, and waits for it.
sub receipted {
    my ($self, $method, %headers) = @_;
    my $receipt = 'r-' . ++$self->{serial};
    $self->{client}->$method({ %headers, receipt => $receipt });
    $self->await_receipt($method, $receipt);
}

# The same for a frame for which the client has no method.
sub receipted_frame {
    my ($self, $command, %headers) = @_;
    my $receipt = 'r-' . ++$self->{serial};
    $self->frame($command, %headers, receipt => $receipt);
    $self->await_receipt($command, $receipt);
}

sub frame {
    my ($self, $command, %headers) = @_;
    $self->{client}->send_frame(Net::Stomp::Frame->new({ command => $command, headers => \%headers }));
}

sub await_receipt {
    my ($self, $what, $receipt) = @_;
    while (1) {
        my $frame = $self->{client}->receive_frame;
        check("the receipt of $what did not come", $frame);
        last if $frame->command eq 'RECEIPT' && $frame->headers->{'receipt-id'} eq $receipt;
        check("ERROR instead of the receipt of $what: " . list(%{ $frame->headers }), $frame->command eq 'MESSAGE');
        push @{ $self->{messages} }, $frame;
    }
}

# Once it returns, the subscription is active. In 1.0 it needs no id.
sub subscribe {
    my ($self, $destination, %headers) = @_;
    $headers{id} //= $self->id unless $self->{version} eq '1.0';
    $self->receipted('subscribe', destination => $destination, %headers);
}

# The body is bytes; so are the headers.
sub send {
    my ($self, $destination, $body, %headers) = @_;
    $self->receipted('send', destination => $destination, body => $body, %headers);
}

# What ACK and NACK call a message. The client adds its message-id in all versions.
sub acknowledgement {
    my ($self, $frame) = @_;
    return (frame => $frame, id => $frame->headers->{ack}) if $self->{version} eq '1.2';
    return (frame => $frame, subscription => $frame->headers->{subscription}) if $self->{version} eq '1.1';
    return (frame => $frame);
}

sub ack {
    my ($self, $frame, %headers) = @_;
    $self->receipted('ack', $self->acknowledgement($frame), %headers);
}

sub nack {
    my ($self, $frame, %headers) = @_;
    $self->receipted('nack', $self->acknowledgement($frame), %headers);
}

# The headers of the ERROR frame, which a close must follow.
sub refused {
    my ($self) = @_;
    my $error = $self->{client}->receive_frame;
    same('what came for an error', $error && $error->command, 'ERROR');
    $self->expect_close('ERROR');
    return $error->headers;
}

sub expect_close {
    my ($self, $what) = @_;
    my $more = $self->{client}->receive_frame;
    same("what came after $what", $more && $more->command, undef);
    # The client closes its side only once it has read the end.
    check("the close after $what did not come", !$self->{client}->socket->opened);
}

# Ends the connection without a word.
sub drop { $_[0]{client}->socket->close }

1;
